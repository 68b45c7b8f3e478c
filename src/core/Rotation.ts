/**
 * Shares the free places of a worker among its queues, by weight.
 *
 * Every queue has a clock that runs slower the heavier the queue is; a place goes to the queue whose clock is behind the
 * others, and puts that clock forward. A queue without work lets the others have its places, and does not save them up.
 *
 * @since 0.1.0
 */

/**
 * One queue of a worker.
 *
 * @since 0.1.0
 * @category models
 */
export interface Lane<Q> {
  readonly queue: Q
  readonly weight: number
  /** How many places it has had, divided by its weight. */
  served: number
}

/**
 * Lanes for queues with their weights.
 *
 * @since 0.1.0
 * @category constructors
 */
export const lanes = <Q>(weights: Iterable<readonly [Q, number]>): ReadonlyArray<Lane<Q>> =>
  Array.from(weights, ([queue, weight]) => ({ queue, weight, served: 0 }))

/**
 * Shares `places` among the lanes that may have work, and counts them as served.
 *
 * @since 0.1.0
 * @category combinators
 */
export const share = <L extends Lane<unknown>>(
  candidates: ReadonlyArray<L>,
  places: number
): ReadonlyMap<L, number> => {
  const shares = new Map<L, number>()
  if (candidates.length === 1) {
    candidates[0]!.served += places / candidates[0]!.weight
    shares.set(candidates[0]!, places)
    return shares
  }
  for (let place = 0; place < places; place++) {
    let next: L | undefined
    for (const lane of candidates) if (next === undefined || lane.served < next.served) next = lane
    if (next === undefined) break
    next.served += 1 / next.weight
    shares.set(next, (shares.get(next) ?? 0) + 1)
  }
  return shares
}

/**
 * Takes back what a lane was given and had no work for.
 *
 * @since 0.1.0
 * @category combinators
 */
export const takeBack = (lane: Lane<unknown>, places: number): void => {
  lane.served -= places / lane.weight
}

/**
 * A lane that had no work joins the others where they are now.
 *
 * @since 0.1.0
 * @category combinators
 */
export const rejoin = (lane: Lane<unknown>, busy: ReadonlyArray<Lane<unknown>>): void => {
  const others = busy.filter((other) => other !== lane)
  if (others.length === 0) return
  lane.served = Math.max(lane.served, Math.min(...others.map((other) => other.served)))
}
