/** Queues with unlucky or hostile names cannot touch each other's tables. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Exit, Layer, Schema } from "effect"
import { NewQueueName } from "../../../../src/core/Identifiers.ts"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "../kernel/Sessions.ts"

// A generator of its own, so that 10,000 pairs are the same ones everywhere.
const numbers = (seed: number) => () => {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
  return seed / 2 ** 32
}

const endings = (
  "d pkey sai cei ti fai cdi eni eai idempotency_key_key state_check 602 053 " +
  "t r c e w i D ti_ x 0602 60"
).split(" ")

/** A short name out of the letters, and the endings, of which tables and indexes are named. */
const nameOf = (random: () => number): string => {
  const pick = <A>(all: ReadonlyArray<A>): A => all[Math.floor(random() * all.length)]!
  const head = pick(["a", "b", "t", "T", "t_a", "r_a", "q", "Q", "ü", "a b", "a\"", "a.b", "%", "__", "a-b"])
  const parts = Array.from({ length: Math.floor(random() * 3) }, () => pick(endings))
  const name = [head, ...parts].join("_")
  // Every twentieth is as long as names may be, where PostgreSQL would cut what is made of it.
  return random() < 0.05
    ? name.padEnd(57, "x").slice(0, 57 - (new TextEncoder().encode(name).length - name.length))
    : name
}

const modes = ["unpartitioned", "partitioned"] as const
type Queue = { readonly name: string; readonly mode: (typeof modes)[number] }

const weeks = ["602", "053", "060", "601"]

/** The first 63 bytes, which is what PostgreSQL keeps of a name. */
const kept = (name: string): string => new TextDecoder().decode(new TextEncoder().encode(name).slice(0, 63))

/** Every table, index and partition that a queue may ever have, except those indexes whose names the server chooses. */
const relationsOf = ({ mode, name }: Queue): ReadonlyArray<string> => {
  const tables = ["t", "r", "c", "e", "w", ...(mode === "partitioned" ? ["i"] : [])].map((letter) =>
    `${letter}_${name}`
  )
  const indexes = ["r_:_sai", "r_:_cei", "r_:_ti", "r_:_fai", "t_:_fai", "t_:_cdi", "w_:_ti", "w_:_eni", "e_:_eai"]
  const partitions = mode === "unpartitioned" ?
    [] :
    ["t", "r", "c", "w"].flatMap((letter) => ["d", ...weeks].map((tag) => `${letter}_${name}_${tag}`))
  return [...tables, ...indexes.map((index) => index.replace(":", () => name)), ...partitions].map(kept)
}

const collide = (a: Queue, b: Queue): boolean => {
  const taken = new Set(relationsOf(a))
  return relationsOf(b).some((relation) => taken.has(relation))
}

const pairs: ReadonlyArray<readonly [Queue, Queue]> = (() => {
  const random = numbers(42)
  const queue = (name: string): Queue => ({ name, mode: random() < 0.5 ? "partitioned" : "unpartitioned" })
  return Array.from({ length: 10_000 }, () => {
    const first = nameOf(random)
    // Half of the second names are the first with an ending, which is how they would meet.
    const second = random() < 0.5
      ? `${first}_${endings[Math.floor(random() * endings.length)]}`.slice(0, 50)
      : nameOf(random)
    return [queue(first), queue(second)] as const
  }).filter(([a, b]) => a.name !== b.name)
})()

const isNew = (name: string) => Exit.isSuccess(Effect.runSyncExit(Schema.decodeUnknownEffect(NewQueueName)(name)))

describe("names of queues", () => {
  it("of which two that may be created never want one table, index or partition", () => {
    assert.isAbove(pairs.length, 9000)
    const met = pairs.filter(([a, b]) => isNew(a.name) && isNew(b.name) && collide(a, b))
    assert.deepStrictEqual(met, [])
    // The pairs are unlucky enough to show it: without the rule many would meet.
    assert.isAbove(pairs.filter(([a, b]) => collide(a, b)).length, 300)
  })
})

layer(Layer.effect(TestPostgres.TestDatabase, TestPostgres.database))("queues of unlucky names", (it) => {
  const sample = pairs.filter(([a, b], index) => collide(a, b) ? index % 50 === 0 : index % 1000 === 0)

  it.effect(
    "either refuse each other, or have tables of their own and survive the other's end",
    () =>
      Effect.gen(function*() {
        const client = yield* Sessions.session
        const refused: Array<string> = []
        assert.isAbove(sample.length, 12)
        for (const [a, b] of sample) {
          const create = (queue: Queue) =>
            Sessions.failure(client, "select absurd.create_queue($1, $2)", [queue.name, queue.mode])
          assert.strictEqual((yield* create(a)).code, "00000", a.name)
          yield* Sessions.query(client, "select absurd.spawn_task($1, 'work', '1')", [a.name])
          const second = yield* create(b)
          if (second.code === "00000") {
            assert.isFalse(collide(a, b), `${a.name} (${a.mode}) and ${b.name} (${b.mode})`)
            yield* Sessions.query(client, "select absurd.spawn_task($1, 'other', '1')", [b.name])
          } else {
            assert.include(second.message, "cannot be created")
            refused.push(b.name)
          }
          yield* Sessions.query(client, "select absurd.drop_queue($1)", [b.name])
          const [claimed, ...more] = yield* Sessions.query(
            client,
            "select task_name from absurd.claim_task($1, 'worker', 60, 10)",
            [a.name]
          )
          assert.deepStrictEqual([claimed?.["task_name"], more], ["work", []], a.name)
          yield* Sessions.query(client, "select absurd.drop_queue($1)", [a.name])
        }
        assert.isNotEmpty(refused)
        const left = yield* Sessions.query(
          client,
          "select relname from pg_class where relnamespace = 'absurd'::regnamespace"
        )
        assert.isTrue(left.every((row) => ["queues", "queues_pkey"].includes(String(row["relname"]))))
      }),
    120_000
  )
})
