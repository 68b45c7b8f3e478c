/**
 * Tasks of every kind that a worker of either side may be given: steps alone, a sleep, a wait, a failure on the way, and
 * tasks that were spawned in one request. Each runs three steps, two of them of one name.
 */
import { assert } from "@effect/vitest"
import type { Absurd as Sdk } from "absurd-sdk"
import { Effect, Layer, Schema } from "effect"
import { Event, RetryStrategy, Step, Task } from "effect-absurd"
import { SqlClient } from "effect/sql"
import { setTimeout } from "node:timers/promises"
import type { Pool } from "pg"

export const kinds = ["plain", "sleeper", "waiter", "flaky", "grouped"] as const
export type Kind = (typeof kinds)[number]

/** What sees the step bodies run, in this process or in several. */
export interface Witness {
  /** The body of a step runs. */
  readonly step: (task: string, step: string) => Promise<void>
  /** Whether the flaky task is to fail now, which it does once. */
  readonly failsNow: (n: number) => Promise<boolean>
  /** A side begins a task. */
  readonly meet: (side: "us" | "the SDK") => Promise<void>
}

/**
 * A witness that several processes share, in tables that {@link watch} has made. Neither side goes on before both have
 * begun, so that neither does all the work.
 */
export const databaseWitness = (pool: Pool): Witness => {
  let met: Promise<void> | undefined
  const meet = async (side: string) => {
    await pool.query("insert into public.sides values ($1) on conflict do nothing", [side])
    while ((await pool.query("select from public.sides")).rowCount !== 2) await setTimeout(20)
  }
  return {
    step: async (task, step) => {
      await pool.query("insert into public.bodies values ($1, $2)", [task, step])
    },
    failsNow: async (n) => {
      const { rowCount } = await pool.query("insert into public.failures values ($1) on conflict do nothing", [n])
      return rowCount === 1
    },
    meet: (side) => met ??= meet(side)
  }
}

const goOf = (queue: string) => Event.make("go", { queue, payload: Schema.Int })

const define = (queue: string, kind: Kind) =>
  Task.make(kind, {
    queue,
    params: { n: Schema.Int },
    success: Schema.Array(Schema.Json),
    retry: RetryStrategy.fixed(0),
    maxAttempts: 2
  })

const ourHandler = (queue: string, witness: Witness, kind: Kind) => ({ n }: { readonly n: number }) =>
  Effect.gen(function*() {
    yield* Effect.promise(() => witness.meet("us"))
    const step = (name: string, number: number) =>
      Step.run(
        name,
        Effect.as(Effect.promise(() => witness.step(`${kind} ${n}`, `${name}#${number}`)), `${name}#${number}`)
      )
    const first = yield* step("work", 1)
    if (kind === "sleeper") yield* Step.sleep("nap", "1 millis")
    const waited = kind === "waiter" ? yield* goOf(queue).wait(String(n)) : null
    if (kind === "flaky" && (yield* Effect.promise(() => witness.failsNow(n)))) {
      return yield* Effect.die(new Error("as planned"))
    }
    return [n, first, waited, yield* step("work", 2), yield* step("end", 1)]
  })

/** Our handlers of all kinds. */
export const ourHandlers = (queue: string, witness: Witness) =>
  Layer.mergeAll(Layer.empty, ...kinds.map((kind) => define(queue, kind).toLayer(ourHandler(queue, witness, kind))))

/** Gives a client of the SDK its handlers of all kinds. */
export const registerTheirs = (witness: Witness, sdk: Sdk): void => {
  for (const kind of kinds) {
    sdk.registerTask<{ n: number }>({ name: kind }, async ({ n }, ctx) => {
      await witness.meet("the SDK")
      const step = (name: string, number: number) =>
        ctx.step(name, async () => {
          await witness.step(`${kind} ${n}`, `${name}#${number}`)
          return `${name}#${number}`
        })
      const first = await step("work", 1)
      if (kind === "sleeper") await ctx.sleepFor("nap", 0.001)
      const waited = kind === "waiter" ? await ctx.awaitEvent(`go:${n}`) : null
      if (kind === "flaky" && await witness.failsNow(n)) throw new Error("as planned")
      return [n, first, waited, await step("work", 2), await step("end", 1)]
    })
  }
}

const upTo = (count: number) => Array.from({ length: count }, (_, n) => n)

/** Spawns so many tasks of each kind, every second one by each side, some of them in one request. */
export const spawnAll = Effect.fnUntraced(function*(queue: string, sdk: Sdk, perKind: number) {
  for (const kind of kinds) {
    const task = define(queue, kind)
    const ours = upTo(perKind).filter((n) => n % 2 === 0)
    if (kind === "grouped") yield* task.spawnMany(ours.map((n) => ({ n })))
    else yield* Effect.forEach(ours, (n) => task.spawn({ n }), { concurrency: 8, discard: true })
    yield* Effect.forEach(
      upTo(perKind).filter((n) => n % 2 === 1),
      (n) => Effect.promise(() => sdk.spawn(kind, { n }, { queue, maxAttempts: 2, retryStrategy: { kind: "none" } })),
      {
        concurrency: 8,
        discard: true
      }
    )
  }
})

/** Emits what the waiters wait for, every third event by us. */
export const emitAll = (queue: string, sdk: Sdk, perKind: number) =>
  Effect.forEach(
    upTo(perKind),
    (n) => n % 3 === 0 ? goOf(queue).emit(String(n), n) : Effect.promise(() => sdk.emitEvent(`go:${n}`, n)),
    {
      concurrency: 8,
      discard: true
    }
  )

/**
 * Has the server note every attempt to write a checkpoint, also one that would change nothing because there is one
 * already, and every end of a run; and makes the tables of {@link databaseWitness}.
 */
export const watch = (queue: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.forEach(
      [
        "create table public.bodies (task text, step text)",
        "create table public.failures (n int primary key)",
        "create table public.sides (side text primary key)",
        "create table public.written (what text, task_id uuid, name text)",
        `create function public.note() returns trigger language plpgsql as $$
        begin
          insert into public.written values (tg_argv[0], new.task_id, to_jsonb(new) ->> tg_argv[1]);
          return new;
        end $$`,
        `create trigger note before insert or update on absurd.c_${queue}
        for each row execute function public.note('checkpoint', 'checkpoint_name')`,
        `create trigger note after update on absurd.r_${queue}
        for each row when (new.state = 'completed') execute function public.note('end', 'state')`
      ],
      (statement) => sql.unsafe(statement).unprepared,
      { discard: true }
    ))

/** How many tasks have not ended. */
export const left = (queue: string) =>
  SqlClient.SqlClient.use((sql) =>
    sql.unsafe<{ readonly left: number }>(
      `select count(*)::int as left from absurd.t_${queue} where state in ('pending', 'running', 'sleeping')`
    )
  ).pipe(Effect.map((rows) => rows[0]?.left))

/** Every task has the right result, ended once, and no checkpoint was written twice. */
export const assertDrained = Effect.fnUntraced(function*(queue: string, perKind: number) {
  const sql = yield* SqlClient.SqlClient
  const tasks = yield* sql.unsafe(
    `select task_name as kind, (params ->> 'n')::int as n, state, completed_payload as result
     from absurd.t_${queue} order by 1, 2`
  )
  assert.deepStrictEqual(
    tasks,
    kinds.toSorted().flatMap((kind) =>
      upTo(perKind).map((n) => ({
        kind,
        n,
        state: "completed",
        result: [n, "work#1", kind === "waiter" ? n : null, "work#2", "end#1"]
      }))
    )
  )
  const count = kinds.length * perKind
  const [ends] = yield* sql`
    select count(*)::int as ends, count(distinct task_id)::int as tasks from public.written where what = 'end'`
  assert.deepStrictEqual(ends, { ends: count, tasks: count })
  const [notes] = yield* sql<{ readonly n: number }>`
    select count(*)::int as n from public.written where what = 'checkpoint'`
  assert.isAtLeast(notes?.n ?? 0, 3 * count)
  assert.deepStrictEqual(yield* sql`select * from public.written group by 1, 2, 3 having count(*) > 1`, [])
  const attempts = yield* sql.unsafe(
    `select task_name as kind, array_agg(distinct attempts)::text as attempts from absurd.t_${queue} group by 1 order by 1`
  )
  assert.deepStrictEqual(
    attempts,
    kinds.toSorted().map((kind) => ({ kind, attempts: kind === "flaky" ? "{2}" : "{1}" }))
  )
})

/** Every step body ran once, by the tables of {@link databaseWitness}. */
export const assertBodies = Effect.fnUntraced(function*(perKind: number) {
  const sql = yield* SqlClient.SqlClient
  assert.deepStrictEqual(yield* sql`select * from public.bodies group by 1, 2 having count(*) > 1`, [])
  const [bodies] = yield* sql`select count(*)::int as n from public.bodies`
  assert.deepStrictEqual(bodies, { n: 3 * kinds.length * perKind })
})
