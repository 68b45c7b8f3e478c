/**
 * Where the handlers of one worker are executed: among the services of the program, put together once and not for each run.
 *
 * @since 0.1.0
 */
import { Context, Effect, type Fiber, Option, References, type Schema, Scope, Tracer } from "effect"
import { CurrentRun } from "./CurrentRun.ts"
import type { Execution } from "./Execution.ts"
import * as Family from "./Family.ts"
import type { Handler } from "./Handlers.ts"
import * as Hooks from "./Hooks.ts"

/**
 * How one handler is executed.
 *
 * @since 0.1.0
 * @category models
 */
export interface Setting {
  /**
   * Executes it in a fiber of its own, at once up to its first wait: with all that is the run's, which are its identity, its
   * scope, and the place in logs and traces that the context of the execution has.
   */
  readonly start: (execution: Execution) => Fiber.Fiber<Schema.Json, unknown>
}

/**
 * The settings of handlers in the context of a worker.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (worker: Context.Context<never>): (handler: Handler) => Setting => {
  const around = Context.get(worker, Hooks.Execution)
  // The code of hooks has the services of the worker, not those of the handler.
  const settle = around === Hooks.Execution.defaultValue() ? direct : hooked(around)
  const known = new WeakMap<Handler, Setting>()
  return (handler) => {
    const before = known.get(handler)
    if (before !== undefined) return before
    const setting = settle(handler, worker)
    known.set(handler, setting)
    return setting
  }
}

// --- internal

type Execute = (params: Schema.Json, run: CurrentRun["Service"]) => ReturnType<Handler["execute"]>

const direct = (handler: Handler, worker: Context.Context<never>): Setting => {
  const context = Context.merge(worker, handler.context)
  const annotations = Context.get(context, References.CurrentLogAnnotations)
  const own = annotations === Context.get(worker, References.CurrentLogAnnotations) ? undefined : annotations
  return startIn(context, own, handler.execute)
}

const hooked = (around: Hooks.AroundExecution) => (handler: Handler, worker: Context.Context<never>): Setting =>
  startIn(
    worker,
    undefined,
    (params, run) => around(Effect.provideContext(handler.execute(params), handler.context), run)
  )

const startIn = (
  context: Context.Context<never>,
  annotations: { readonly [key: string]: unknown } | undefined,
  execute: Execute
): Setting => {
  // One map, before which there is room for what is added to a context without copying it.
  const base = Context.makeUnsafe<never>(Family.watching(context).mapUnsafe)
  return {
    start: (execution) => {
      const { claimed, family, service } = execution
      const scope = Scope.makeUnsafe()
      const handling = Effect.withFiber((fiber) => {
        family.root = fiber
        return execute(claimed.params, service)
      })
      const logged = Context.get(execution.context, References.CurrentLogAnnotations)
      const span = Context.getOption(execution.context, Tracer.ParentSpan)
      const unseen = base.pipe(
        Context.add(CurrentRun, service),
        Context.add(Scope.Scope, scope),
        Context.add(Family.Current, family),
        Context.add(
          References.CurrentLogAnnotations,
          annotations === undefined ? logged : { ...annotations, ...logged }
        )
      )
      const own = Option.isSome(span) ? Context.add(unseen, Tracer.ParentSpan, span.value) : unseen
      return Effect.runForkWith(own)(Effect.onExitPrimitive(handling, (exit) => Scope.closeUnsafe(scope, exit)))
    }
  }
}
