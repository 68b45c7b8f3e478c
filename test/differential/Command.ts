/**
 * Operations with symbolic arguments, so that a sequence means the same to every store. What is drawn next depends on what is
 * there: about half of the operations can be applied to something, and the others are refused in one way or another.
 */
import { Arbitrary, Effect, Random, Schema } from "effect"
import { parkedUntil } from "../../src/core/Driver.ts"
import * as Claiming from "./alphabet/Claiming.ts"
import * as Ending from "./alphabet/Ending.ts"
import * as Limits from "./alphabet/Limits.ts"
import * as Queues from "./alphabet/Queues.ts"
import * as Reading from "./alphabet/Reading.ts"
import * as Schedules from "./alphabet/Schedules.ts"
import * as Spawning from "./alphabet/Spawning.ts"
import * as Waiting from "./alphabet/Waiting.ts"
import * as Workers from "./alphabet/Workers.ts"
import * as WorkflowRuns from "./alphabet/WorkflowRuns.ts"
import * as Drawn from "./Drawn.ts"
import type { Known, QueueRef } from "./Known.ts"
import { type Chance, type Operation, operation } from "./Operation.ts"

/** Time passes before every command; with this one more of it. */
const advance = operation({
  fields: { millis: Drawn.Millis as unknown as Schema.Codec<number> },
  weight: () => 6,
  aim: ({ millis }, { dump, now }, chance) => {
    const next = (instants: ReadonlyArray<{ readonly epochMilliseconds: number } | null>) => {
      const all = instants.flatMap((at) => at === null ? [] : [at.epochMilliseconds - now.epochMilliseconds])
      // What is parked becomes due by what happens to others.
      return chance.pick(all.filter((wait) => wait > 0 && wait < parkedUntil.epochMilliseconds - now.epochMilliseconds))
    }
    const toDue = next(dump.runs.map(({ availableAt, state }) => state === "sleeping" ? availableAt : null))
    const toEnd = next(dump.runs.map(({ claimExpiresAt, state }) => state === "running" ? claimExpiresAt : null))
    const aimed = chance.happens(0.45) ? toDue : chance.happens(0.15) ? toEnd : undefined
    return { millis: aimed ?? (millis >= 60_000 && chance.happens(0.7) ? 250 : millis) }
  },
  perform: () => Effect.void,
  touches: "nothing",
  alone: true
})

/** Every operation, by its name. */
export const alphabet = {
  advance,
  ...Spawning.operations,
  ...Claiming.operations,
  ...Ending.operations,
  ...Waiting.operations,
  ...Reading.operations,
  ...Queues.operations,
  ...WorkflowRuns.operations,
  ...Schedules.operations,
  ...Limits.operations,
  ...Workers.operations
}
export type Tag = keyof typeof alphabet

/** One operation. */
export type Simple = {
  readonly [T in Tag]:
    & { readonly _tag: T; readonly queue: QueueRef }
    & Schema.Struct.Type<typeof alphabet[T]["fields"]>
}[Tag]

/** Several operations that commit or do not, with a nested transaction of the last one that does not when `nested`. */
export interface Together {
  readonly _tag: "together"
  readonly commands: ReadonlyArray<Simple>
  readonly how: "withTransaction" | "exclusively"
  readonly commit: boolean
  readonly nested: boolean
}
export type Command = Simple | Together

/** Any operation, for those who need not know which. */
export type Any = Operation<Schema.Struct.Fields>
export const operationOf = (tag: Tag): Any => alphabet[tag] as unknown as Any

/** Draws commands one by one. The same seed draws the same, for the same states. */
export class Draw {
  private readonly chance: Chance
  private readonly random: Random.Random
  private readonly pools = new Map<Tag, Array<object>>()

  constructor(random: Random.Random) {
    this.random = random
    const pick = <A>(all: ReadonlyArray<A>): A | undefined => all[Math.floor(random.nextDoubleUnsafe() * all.length)]
    this.chance = { happens: (probability) => random.nextDoubleUnsafe() < probability, pick }
  }

  next(knownOf: (queue: QueueRef) => Known): Effect.Effect<Command> {
    if (!this.chance.happens(0.05)) return this.simple(knownOf, false)
    const { happens } = this.chance
    const count = 1 + Math.floor(this.random.nextDoubleUnsafe() * 4)
    return Effect.map(
      Effect.all(Array.from({ length: count }, () => this.simple(knownOf, true))),
      (commands): Together => ({
        _tag: "together",
        commands,
        how: happens(0.2) ? "exclusively" : "withTransaction",
        commit: happens(0.6),
        nested: happens(0.3)
      })
    )
  }

  private simple(knownOf: (queue: QueueRef) => Known, inside: boolean): Effect.Effect<Simple> {
    const place = this.random.nextDoubleUnsafe()
    const queue = place < 0.75 ? "a" : place < 0.96 ? "b" : "c"
    const known = knownOf(queue)
    const tag = this.tag(known, inside)
    const { aim } = operationOf(tag)
    return Effect.map(this.fields(tag), (fields) => {
      const aimed = aim?.(fields, known, this.chance) ?? {}
      return { _tag: tag, queue, ...fields, ...aimed } as Simple
    })
  }

  private tag(known: Known, inside: boolean): Tag {
    const weights = tags.map((tag): number => {
      const { alone, weight } = operationOf(tag)
      return inside && alone === true ? 0 : weight(known)
    })
    let left = this.random.nextDoubleUnsafe() * weights.reduce((sum, weight) => sum + weight, 0)
    return tags.find((_, index) => (left -= weights[index]!) < 0) ?? "advance"
  }

  /** Many at a time, because that costs little more than one. */
  private fields(tag: Tag): Effect.Effect<{ readonly [key: string]: unknown }> {
    const pool = this.pools.get(tag) ?? []
    this.pools.set(tag, pool)
    const found = pool.pop()
    if (found !== undefined) return Effect.succeed({ ...found })
    const seed = Math.floor(this.random.nextDoubleUnsafe() * 2 ** 31)
    const arbitrary = Arbitrary.schema(Schema.Struct(operationOf(tag).fields) as unknown as Schema.Codec<object>)
    return Effect.flatMap(Effect.orDie(Arbitrary.sampleEffect(arbitrary, { count: 50, size: 20, seed })), (drawn) => {
      pool.push(...drawn)
      return this.fields(tag)
    })
  }
}

/** A draw of this seed. */
export const draw = (seed: number): Effect.Effect<Draw> =>
  Effect.map(Random.withSeed(Random.Random, seed), (random) => new Draw(random))

// --- internal

const tags = Object.keys(alphabet) as ReadonlyArray<Tag>
