/**
 * The fibers that one handler has started, and the timers that they wait for.
 *
 * Effect tells a fiber's metrics about the start and end of each fiber that inherits its context, whichever combinator started
 * it; while it starts, its parent is the current fiber. The context also says which family it is, so that all handlers of a
 * worker share one set of metrics and one clock.
 *
 * @since 0.1.0
 */
import { Clock, Context, Duration, Effect, Fiber, Latch, Metric } from "effect"

/**
 * The family that the calling code belongs to.
 *
 * @since 0.1.0
 * @category references
 */
export const Current = Context.Reference<Family | undefined>("effect-absurd/core/Family/Current", {
  defaultValue: () => undefined
})

/**
 * A context in which families are told of their fibers and timers. To be made once for many of them.
 *
 * @since 0.1.0
 * @category combinators
 */
export const watching = <R>(context: Context.Context<R>): Context.Context<R> => {
  const outer = Context.get(context, Metric.FiberRuntimeMetrics)
  const around = Context.get(context, Current)
  /** What is around sees the fibers as its own. */
  const asOuter = (inner: Context.Context<never>) => Context.add(inner, Current, around)
  const metrics: Metric.FiberRuntimeMetricsService = {
    recordFiberStart: (inner) => {
      if (outer !== undefined) outer.recordFiberStart(asOuter(inner))
      Context.get(inner, Current)?.started()
    },
    recordFiberEnd: (inner, exit) => {
      if (outer !== undefined) outer.recordFiberEnd(asOuter(inner), exit)
      Context.get(inner, Current)?.ended()
    }
  }
  const clock = Context.get(context, Clock.Clock)
  const sleep = (duration: Duration.Duration) =>
    around === undefined ? clock.sleep(duration) : Effect.provideService(clock.sleep(duration), Current, around)
  const timing: Clock.Clock = Object.assign(Object.create(clock) as Clock.Clock, {
    sleep: (duration: Duration.Duration) =>
      Effect.withFiber((fiber) => {
        const family = fiber.getRef(Current)
        return family === undefined ? sleep(duration) : family.sleeping(fiber, duration, sleep(duration))
      })
  })
  return Context.add(Context.add(context, Metric.FiberRuntimeMetrics, metrics), Clock.Clock, timing)
}

/**
 * The fibers of one handler.
 *
 * @since 0.1.0
 * @category models
 */
export class Family {
  /** The fiber that executes the handler, and starts in this family. */
  root: Fiber.Fiber<unknown, unknown> | undefined = undefined
  /** How many others there are, from the start of the root on. */
  private children = -1
  /** Those that have started others. */
  private parents: Set<Fiber.Fiber<unknown, unknown>> | undefined = undefined
  private timers: Map<Fiber.Fiber<unknown, unknown>, Duration.Duration> | undefined = undefined
  private latch: Latch.Latch | undefined = undefined

  /** Opened when a fiber ends. */
  get changed(): Latch.Latch {
    return this.latch ??= Latch.makeUnsafe(false)
  }

  /** Told of a fiber that starts, by the current one. */
  started(): void {
    this.children++
    const parent = Fiber.getCurrent()
    if (parent === undefined || this.parents?.has(parent) === true) return
    if (parent !== this.root && parent.getRef(Current) !== this) return
    const parents = this.parents ??= new Set()
    parents.add(parent)
    parent.addObserver(() => parents.delete(parent))
  }

  /** Told of a fiber that has ended. */
  ended(): void {
    this.children--
    this.latch?.openUnsafe()
  }

  /** Remembers a timer while somebody waits for it. */
  sleeping<A>(
    fiber: Fiber.Fiber<unknown, unknown>,
    duration: Duration.Duration,
    timer: Effect.Effect<A>
  ): Effect.Effect<A> {
    const timers = this.timers ??= new Map()
    timers.set(fiber, duration)
    return Effect.ensuring(timer, Effect.sync(() => timers.delete(fiber)))
  }

  /** Whether somebody waits for a timer that is longer than that. */
  timerBeyond(limit: Duration.Duration): boolean {
    return [...this.timers?.values() ?? []].some((duration) => Duration.isGreaterThan(duration, limit))
  }

  /** Whether every fiber is in `waiting` or waits for fibers that it started. */
  allIn(waiting: ReadonlyMap<Fiber.Fiber<unknown, unknown>, unknown>): boolean {
    const { parents = new Set(), root } = this
    if (root === undefined || !(waiting.has(root) || parents.has(root))) return false
    let accounted = 0
    for (const fiber of waiting.keys()) if (fiber !== root) accounted++
    for (const fiber of parents) if (fiber !== root && !waiting.has(fiber)) accounted++
    return accounted === this.children
  }

  /** Runs a handler in a fiber that has started already, as the root. */
  supervise<A, E, R>(handler: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.withFiber((fiber) => {
      this.root = fiber
      this.children = 0
      return Effect.updateContext(
        handler,
        (context: Context.Context<R>) => Context.add(watching(context), Current, this) as Context.Context<R>
      )
    })
  }
}
