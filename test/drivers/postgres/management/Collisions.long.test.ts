/** Queues with unlucky or hostile names cannot touch each other's tables. */
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Schema } from "effect"
import type pg from "pg"
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

/** What else the weeks of a partition may be called, one of them out of each kind of ending. */
const weeks = ["602", "053", "060", "601"]

/** The names that a queue gives, and those that the server chooses for it, which it does so that nothing bears them yet. */
interface Relations {
  readonly given: ReadonlySet<string>
  readonly chosen: ReadonlySet<string>
}

/** In an empty store. Indexes of partitions and of constraints are the ones that the server names. */
const relationsIn = (client: pg.Client) =>
  Effect.map(
    Sessions.query(
      client,
      `select c.relname as name, p.inhrelid is not null as partition,
        c.relkind in ('r', 'p') or not root.relispartition and k.oid is null as given
       from pg_class as c
         left join pg_inherits as p on p.inhrelid = c.oid and c.relkind = 'r'
         left join pg_index as i on i.indexrelid = c.oid
         left join pg_class as root on root.oid = i.indrelid
         left join pg_constraint as k on k.conindid = c.oid
       where c.relnamespace = 'absurd'::regnamespace and c.relname not in ('queues', 'queues_pkey')`
    ),
    (rows): Relations => {
      const given = new Set<string>()
      const chosen = new Set<string>()
      for (const row of rows) {
        const name = String(row["name"])
        const set = row["given"] === true ? given : chosen
        set.add(name)
        // The partitions of other weeks will come.
        if (row["partition"] === true && /_[0-9]{3}$/.test(name)) {
          for (const week of weeks) set.add(name.slice(0, -3) + week)
        }
      }
      return { given, chosen }
    }
  )

const meet = (a: ReadonlySet<string>, b: ReadonlySet<string>): boolean => [...a].some((name) => b.has(name))

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

const keyOf = ({ mode, name }: Queue): string => `${mode} ${name}`

/** Creates each queue by itself, looks at what there is then, and undoes it. */
const observe = Effect.fnUntraced(function*(client: pg.Client) {
  // One week shows what all are called.
  yield* Sessions.query(client, "alter table absurd.queues alter partition_lookahead set default '0'")
  yield* Sessions.query(client, "alter table absurd.queues alter partition_lookback set default '0'")
  const observed = new Map<string, Relations>()
  for (const queue of pairs.flat()) {
    if (observed.has(keyOf(queue))) continue
    yield* Sessions.query(client, "begin")
    yield* Sessions.query(client, "select absurd.create_queue($1, $2)", [queue.name, queue.mode])
    observed.set(keyOf(queue), yield* relationsIn(client))
    yield* Sessions.query(client, "rollback")
  }
  return observed
})

class Observed extends Context.Service<Observed, {
  readonly client: pg.Client
  readonly relations: ReadonlyMap<string, Relations>
  /** Whether something of the second could not be made, or would be taken for its own, once the first is there. */
  readonly collide: (first: Queue, second: Queue) => boolean
}>()("test/management/Observed") {}

const observed = Layer.effect(
  Observed,
  Effect.gen(function*() {
    const client = yield* Sessions.session
    const relations = yield* observe(client)
    const of = (queue: Queue) => relations.get(keyOf(queue))!
    return {
      client,
      relations,
      collide: (first, second) => meet(of(second).given, of(first).given) || meet(of(second).given, of(first).chosen)
    }
  })
).pipe(Layer.provide(Layer.effect(TestPostgres.TestDatabase, TestPostgres.database)))

layer(observed, { concurrent: false, timeout: "20 minutes" })("queues of unlucky names", (it) => {
  it.effect("of which two that may be created never want one table, index or partition", () =>
    Effect.gen(function*() {
      const { collide, relations } = yield* Observed
      assert.isAbove(pairs.length, 9000)
      assert.isAbove(relations.size, 1000)
      const collides = ([a, b]: readonly [Queue, Queue]) => collide(a, b) || collide(b, a)
      assert.deepStrictEqual(pairs.filter(([a, b]) => isNew(a.name) && isNew(b.name)).filter(collides), [])
      // The pairs are unlucky enough to show it: without the rule many would meet.
      assert.isAbove(pairs.filter(collides).length, 300)
    }))

  it.effect(
    "either refuse each other, or have tables of their own and survive the other's end",
    () =>
      Effect.gen(function*() {
        const { client, collide } = yield* Observed
        const run = pairs.filter(([a, b], index) => collide(a, b) || collide(b, a) || index % 100 === 0)
        let refused = 0
        for (const [a, b] of run) {
          const create = (queue: Queue) =>
            Sessions.failure(client, "select absurd.create_queue($1, $2)", [queue.name, queue.mode])
          assert.strictEqual((yield* create(a)).code, "00000", a.name)
          yield* Sessions.query(client, "select absurd.spawn_task($1, 'work', '1')", [a.name])
          const second = yield* create(b)
          if (second.code === "00000") {
            assert.isFalse(collide(a, b), `${keyOf(a)} and ${keyOf(b)}`)
            yield* Sessions.query(client, "select absurd.spawn_task($1, 'other', '1')", [b.name])
          } else {
            assert.include(second.message, "cannot be created")
            refused++
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
        assert.isAbove(refused, 300)
        const left = yield* Sessions.query(
          client,
          "select relname from pg_class where relnamespace = 'absurd'::regnamespace"
        )
        assert.isTrue(left.every((row) => ["queues", "queues_pkey"].includes(String(row["relname"]))))
      }),
    1_200_000
  )
})
