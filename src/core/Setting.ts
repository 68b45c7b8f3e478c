/**
 * Where the handlers of one worker are executed: among the services of the program, put together once and not for each run.
 *
 * @since 0.1.0
 */
import { Context, Effect, Option, References, type Schema, Scope, Tracer } from "effect"
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
  /** The context of its fibers. */
  readonly context: Context.Context<never>
  /**
   * Executes it, as the root of its fiber, with all that is the run's own: its identity, its scope, and the place in logs and
   * traces that the context of the execution has.
   */
  readonly run: (execution: Execution) => Effect.Effect<Schema.Json, unknown>
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
  return { context: Family.watching(context), run: runWith(handler.execute, own) }
}

const hooked = (around: Hooks.AroundExecution) => (handler: Handler, worker: Context.Context<never>): Setting => ({
  context: Family.watching(worker),
  run: runWith((params, run) => around(Effect.provideContext(handler.execute(params), handler.context), run), undefined)
})

const runWith =
  (execute: Execute, annotations: { readonly [key: string]: unknown } | undefined): Setting["run"] => (execution) =>
    Effect.withFiber((fiber) => {
      const { claimed, context, family, service } = execution
      const scope = Scope.makeUnsafe()
      family.root = fiber
      const logged = Context.get(context, References.CurrentLogAnnotations)
      const span = Context.getOption(context, Tracer.ParentSpan)
      const handled = Effect.updateContext(
        // Suspended, because the program's code may throw here already.
        Effect.suspend(() => execute(claimed.params, service)),
        (outer: Context.Context<never>) => {
          const own = outer.pipe(
            Context.add(CurrentRun, service),
            Context.add(Scope.Scope, scope),
            Context.add(Family.Current, family),
            Context.add(
              References.CurrentLogAnnotations,
              annotations === undefined ? logged : { ...annotations, ...logged }
            )
          )
          return Option.isSome(span) ? Context.add(own, Tracer.ParentSpan, span.value) : own
        }
      )
      return Effect.onExit(handled, (exit) => Scope.close(scope, exit))
    })
