/**
 * How the trace of a spawn and the traces of its runs know each other, in the terms of W3C Trace Context.
 *
 * @since 0.1.0
 */
import { Tracer } from "effect"
import type * as Driver from "./Driver.ts"

/**
 * The header that carries the span of a task's spawn.
 *
 * @since 0.1.0
 * @category models
 */
export const header = "traceparent"

/**
 * The task with the span in its headers, unless there is one already.
 *
 * @since 0.1.0
 * @category combinators
 */
export const inject = (task: Driver.SpawnItem, span: Tracer.Span): Driver.SpawnItem => {
  if (task.headers?.[header] !== undefined) return task
  const traceparent = `00-${span.traceId.padStart(32, "0")}-${span.spanId}-${span.sampled ? "01" : "00"}`
  return { ...task, headers: { ...task.headers, [header]: traceparent } }
}

/**
 * Where the trace of a run begins. Whoever wrote the header, what is not a trace context is not followed.
 *
 * @since 0.1.0
 * @category combinators
 */
export const originOf = ({ headers }: Driver.Claimed): Tracer.SpanOptionsNoTrace => {
  const traceparent = headers?.[header]
  const match = typeof traceparent === "string" ? pattern.exec(traceparent) : null
  if (match === null) return { root: true }
  const [, traceId = "", spanId = "", flags = ""] = match
  return { parent: Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 }) }
}

/**
 * The same for all runs of a task, in every process, so that they can be found together: ids made from the task's id.
 *
 * @since 0.1.0
 * @category combinators
 */
export const taskLink = ({ taskId }: Driver.Claimed): Tracer.SpanLink => {
  const traceId = taskId.replaceAll("-", "")
  return {
    span: Tracer.externalSpan({ traceId, spanId: traceId.slice(16), sampled: false }),
    attributes: { "absurd.task_id": taskId }
  }
}

// --- internal

const pattern = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/
