/** One queue, a worker of each side, real time: every task once, every step once, no complaint of the server. */
import { assert, it } from "@effect/vitest"
import type { Absurd as Sdk } from "absurd-sdk"
import { Effect, Layer, Schedule, Schema } from "effect"
import { Absurd, Event, RetryStrategy, Step, Task, Worker } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as TestPostgres from "../support/Postgres.ts"
import * as Interop from "./support/Interop.ts"

const queue = "mixed"
const perKind = 60
const kinds = ["plain", "sleeper", "waiter", "flaky", "grouped"] as const
type Kind = (typeof kinds)[number]

const Go = Event.make("go", { queue, payload: Schema.Int })

const define = (kind: Kind) =>
  Task.make(kind, {
    queue,
    params: { n: Schema.Int },
    success: Schema.Array(Schema.Json),
    retry: RetryStrategy.fixed(0),
    maxAttempts: 2
  })

/** What happened in this process, whichever side it happened on. */
const makeWitness = () => {
  const bodies = new Map<string, number>()
  const failed = new Set<number>()
  const sides = new Set<string>()
  const both = Promise.withResolvers<void>()
  return {
    bodies,
    step: (task: string, name: string) => {
      const key = `${task} ${name}`
      bodies.set(key, (bodies.get(key) ?? 0) + 1)
      return name
    },
    failsNow: (n: number) => !failed.has(n) && failed.add(n) !== undefined,
    /** Neither side goes on before both have begun, so that neither does all the work. */
    meet: (side: string) => {
      sides.add(side)
      if (sides.size === 2) both.resolve()
      return both.promise
    }
  }
}

type Witness = ReturnType<typeof makeWitness>

const ourHandler = (witness: Witness, kind: Kind) => ({ n }: { readonly n: number }) =>
  Effect.gen(function*() {
    yield* Effect.promise(() => witness.meet("us"))
    const step = (name: string, number: number) =>
      Step.run(name, Effect.sync(() => witness.step(`${kind} ${n}`, `${name}#${number}`)))
    const first = yield* step("work", 1)
    if (kind === "sleeper") yield* Step.sleep("nap", "1 millis")
    const waited = kind === "waiter" ? yield* Go.wait(String(n)) : null
    if (kind === "flaky" && witness.failsNow(n)) return yield* Effect.die(new Error("as planned"))
    return [n, first, waited, yield* step("work", 2), yield* step("end", 1)]
  })

const registerTheirs = (witness: Witness, sdk: Sdk, kind: Kind) =>
  sdk.registerTask<{ n: number }>({ name: kind }, async ({ n }, ctx) => {
    await witness.meet("the SDK")
    const step = (name: string, number: number) =>
      ctx.step(name, async () => witness.step(`${kind} ${n}`, `${name}#${number}`))
    const first = await step("work", 1)
    if (kind === "sleeper") await ctx.sleepFor("nap", 0.001)
    const waited = kind === "waiter" ? await ctx.awaitEvent(`go:${n}`) : null
    if (kind === "flaky" && witness.failsNow(n)) throw new Error("as planned")
    return [n, first, waited, await step("work", 2), await step("end", 1)]
  })

/** Spawns every second task of a kind by each side, some of them in one request. */
const spawnAll = Effect.fnUntraced(function*(sdk: Sdk) {
  for (const kind of kinds) {
    const task = define(kind)
    const numbers = Array.from({ length: perKind }, (_, n) => n)
    const [ours, theirs] = [numbers.filter((n) => n % 2 === 0), numbers.filter((n) => n % 2 === 1)]
    if (kind === "grouped") yield* task.spawnMany(ours.map((n) => ({ n })))
    else yield* Effect.forEach(ours, (n) => task.spawn({ n }), { concurrency: 8, discard: true })
    yield* Effect.promise(() =>
      Promise.all(theirs.map((n) => sdk.spawn(kind, { n }, { maxAttempts: 2, retryStrategy: { kind: "none" } })))
    )
  }
})

const drain = (storage: "unpartitioned" | "partitioned") =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const database = yield* TestPostgres.TestDatabase
    const pool = yield* Interop.makePool({ ...database.pgConfig, max: 5 })
    const { log, sdk } = Interop.makeClient(pool, queue)
    const witness = makeWitness()
    yield* Absurd.createQueue(queue, { storage })
    // Every write of a checkpoint and every end of a run is noted by the server itself.
    yield* Effect.promise(() =>
      pool.query(`
      create table public.written (what text, task_id uuid, name text);
      create function public.note() returns trigger language plpgsql as $$
      begin
        insert into public.written values (tg_argv[0], new.task_id, to_jsonb(new) ->> tg_argv[1]);
        return null;
      end $$;
      create trigger note after insert or update on absurd.c_${queue}
        for each row execute function public.note('checkpoint', 'checkpoint_name');
      create trigger note after update on absurd.r_${queue}
        for each row when (new.state = 'completed') execute function public.note('end', 'state')`)
    )
    for (const kind of kinds) registerTheirs(witness, sdk, kind)
    const handlers = Layer.mergeAll(
      Layer.empty,
      ...kinds.map((kind) => define(kind).toLayer(ourHandler(witness, kind)))
    )
    yield* Layer.build(Layer.provideMerge(Worker.layer({ queue, concurrency: 8, pollInterval: "10 millis" }), handlers))
    yield* Effect.acquireRelease(
      Effect.promise(() => sdk.startWorker({ concurrency: 8, pollInterval: 0.01, workerId: "the SDK" })),
      (worker) => Effect.promise(() => worker.close())
    )
    yield* spawnAll(sdk)
    yield* Effect.forEach(Array.from({ length: perKind }, (_, n) => n), (n) =>
      n % 3 === 0 ? Go.emit(String(n), n) : Effect.promise(() => sdk.emitEvent(`go:${n}`, n)), { concurrency: 8 })
    yield* sql<{ readonly left: number }>`
      select count(*)::int as left from absurd.t_mixed where state in ('pending', 'running', 'sleeping')`.pipe(
      Effect.repeat({
        schedule: Schedule.spaced("20 millis"),
        until: ([row]) =>
          row?.left === 0
      })
    )

    const tasks = yield* sql<
      { readonly kind: Kind; readonly n: number; readonly state: string; readonly result: unknown }
    >`
      select task_name as kind, (params ->> 'n')::int as n, state, completed_payload as result
      from absurd.t_mixed order by 1, 2`
    assert.deepStrictEqual(
      tasks,
      kinds.toSorted().flatMap((kind) =>
        Array.from({ length: perKind }, (_, n) => ({
          kind,
          n,
          state: "completed",
          result: [n, "work#1", kind === "waiter" ? n : null, "work#2", "end#1"]
        }))
      )
    )
    const [ends] = yield* sql`
      select count(*)::int as ends, count(distinct task_id)::int as tasks from public.written where what = 'end'`
    assert.deepStrictEqual(ends, { ends: kinds.length * perKind, tasks: kinds.length * perKind })
    assert.deepStrictEqual(yield* sql`select * from public.written group by 1, 2, 3 having count(*) > 1`, [])
    assert.strictEqual(witness.bodies.size, kinds.length * perKind * 3)
    assert.deepStrictEqual(
      [...witness.bodies].filter(([, times]) =>
        times > 1
      ),
      []
    )
    const attempts = yield* sql`
      select task_name as kind, array_agg(distinct attempts)::text as attempts from absurd.t_mixed group by 1 order by 1`
    assert.deepStrictEqual(
      attempts,
      kinds.toSorted().map((kind) => ({ kind, attempts: kind === "flaky" ? "{2}" : "{1}" }))
    )
    const sides = yield* sql`
      select distinct case when claimed_by = 'the SDK' then 'the SDK' else split_part(claimed_by, ':', 1) end as side
      from absurd.r_mixed where state = 'completed' order by 1`
    assert.deepStrictEqual(sides, [{ side: "effect" }, { side: "the SDK" }])
    assert.deepStrictEqual(log.filter((line) => !line.includes("as planned")), [])
    assert.deepStrictEqual(yield* database.errors, [])
  }).pipe(
    // The workers end before the client that they work with.
    Effect.scoped,
    Effect.provide(
      Absurd.layerWith({ queue, workerId: "effect" }).pipe(
        Layer.provideMerge(TestPostgres.layer({ maxConnections: 5 }))
      )
    )
  )

for (const storage of ["unpartitioned", "partitioned"] as const) {
  it.live(
    `300 mixed tasks of one ${storage} queue are completed once each by a worker of each side`,
    () => drain(storage),
    60_000
  )
}
