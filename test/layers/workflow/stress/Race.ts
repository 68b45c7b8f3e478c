/** Races of two deferreds and a clock on a real server, completed at random moments, and what must be true of them. */
import { assert } from "@effect/vitest"
import { Effect, Layer, Random, Schema, Stream } from "effect"
import { Absurd, Driver } from "effect-absurd"
import { SqlClient } from "effect/sql"
import { Activity, DurableClock, DurableDeferred, Workflow } from "effect/workflow"
import * as PostgresDriver from "../../../../src/drivers/postgres/PostgresDriver.ts"

export const queue = "races"

/** In milliseconds. */
export const pollInterval = 250

const Left = DurableDeferred.make("left", { success: Schema.Literal("left") })
const Right = DurableDeferred.make("right", { success: Schema.Literal("right") })
const Winner = Schema.Literals(["left", "right", "clock"])

export const Race = Workflow.make("Race", {
  payload: {
    n: Schema.Int,
    /** In milliseconds. */
    clock: Schema.Int
  },
  idempotencyKey: ({ n }) => String(n),
  success: Winner
})

/** Waits for nothing. How long it takes is what everything takes, on this machine and at this moment. */
const Control = Workflow.make("Control", {
  payload: { n: Schema.Int },
  idempotencyKey: ({ n }) => String(n)
})

/** Where each end of a race is written down. */
export const createEnds = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`create table race_ends (n int not null, winner text not null)`
)

const end = (n: number, winner: string) =>
  Activity.make({
    name: "end",
    execute: Effect.flatMap(
      SqlClient.SqlClient,
      (sql) => Effect.asVoid(Effect.orDie(sql`insert into race_ends values (${n}, ${winner})`))
    )
  })

/** What is done after a race is to be done once, whatever else is completed. */
const race = Race.toLayer(Effect.fn(function*({ clock, n }) {
  const winner = yield* DurableDeferred.raceAll({
    name: "race",
    success: Winner,
    error: Schema.Never,
    effects: [
      DurableDeferred.await(Left),
      DurableDeferred.await(Right),
      Effect.as(DurableClock.sleep({ name: "race", duration: clock, inMemoryThreshold: 0 }), "clock" as const)
    ]
  })
  yield* end(n, winner)
  return winner
}))

export const layer = Layer.merge(race, Control.toLayer(({ n }) => end(-n, "control")))

/** A client that nothing tells of work: only polling finds it. */
export const layerPolling = Absurd.layerDriver().pipe(
  Layer.provide(
    Layer.effect(Driver.Driver, Effect.map(PostgresDriver.make(), (driver) => ({ ...driver, signals: Stream.never })))
  )
)

/**
 * Runs races, so many at once, to their ends, and now and then something that waits for nothing. Says who has won according to
 * those who waited for it.
 */
export const runAll = (count: number, inFlight: number) =>
  Effect.forEach(
    Array.from({ length: count }, (_, n) => n),
    (n) => n % 10 === 0 ? Effect.andThen(Control.execute({ n: n + 1 }), run(n)) : run(n),
    { concurrency: inFlight }
  )

/**
 * What the store says about the races. The wait of a race is from the first moment at which it could end (a completion, its
 * clock, or its start when a completion came before) until its end, by the clock of the server.
 */
export const judge = Effect.fnUntraced(function*(told: ReadonlyArray<typeof Winner.Type>) {
  const sql = yield* SqlClient.SqlClient
  const races = yield* sql<Judged>`
    select (t.params ->> 'n')::int as n, t.state, t.attempts, t.completed_payload #>> '{exit,value}' as winner,
      (select count(*)::int from absurd.r_races o where o.task_id = t.task_id) as runs,
      (select count(*)::int from race_ends e where e.n = (t.params ->> 'n')::int) as ends,
      coalesce(case t.completed_payload #>> '{exit,value}'
        when 'left' then l.emitted_at when 'right' then r.emitted_at else clock.due
      end <= run.completed_at, false) as earned,
      extract(epoch from run.completed_at
        - greatest(t.enqueue_at, least(l.emitted_at, r.emitted_at, clock.due)))::float8 * 1000 as wait
    from absurd.t_races t
      join absurd.r_races run on run.run_id = t.last_attempt_run
      left join absurd.e_races l
        on l.event_name = 'wf:' || t.idempotency_key || ':deferred:left' and l.payload is not null
      left join absurd.e_races r
        on r.event_name = 'wf:' || t.idempotency_key || ':deferred:right' and r.payload is not null
      left join lateral (
        select (c.state #>> '{}')::timestamptz as due from absurd.c_races c
        where c.task_id = t.task_id and c.checkpoint_name = 'clock:DurableClock/race'
      ) clock on true
    where t.task_name = 'Race'
    order by 1`
  const [control] = yield* sql<{ readonly longest: number }>`
    select max(extract(epoch from r.completed_at - t.enqueue_at))::float8 * 1000 as longest
    from absurd.t_races t join absurd.r_races r on r.run_id = t.last_attempt_run
    where t.task_name = 'Control'`
  assert.deepStrictEqual(races.map(({ n }) => n), told.map((_, n) => n))
  // Each has ended once, in one run that nobody lost, as those who waited were told, and as somebody had completed it.
  const strange = races.filter((race) =>
    race.state !== "completed" || race.attempts !== 1 || race.runs !== 1 || race.ends !== 1 || !race.earned ||
    race.winner !== told[race.n] || !entrants[race.n % entrants.length]!.includes(told[race.n]!)
  )
  assert.deepStrictEqual(strange, [])
  const waits = races.map(({ wait }) => wait).sort((a, b) => a - b)
  const at = (share: number) => waits[Math.ceil(share * waits.length) - 1]!
  const longest = at(1)
  // None waits for more than a poll, and what a machine with fewer cores than processes needs for anything at all.
  assert.isAtMost(longest, pollInterval + 500 + 2 * control!.longest)
  return { p50: at(0.5), p99: at(0.99), longest, control: control!.longest }
})

// --- internal

interface Judged {
  readonly n: number
  readonly state: string
  readonly attempts: number
  readonly winner: string
  readonly runs: number
  readonly ends: number
  readonly earned: boolean
  readonly wait: number
}

/** Who takes part in earnest, by the number of the race. A clock that does not is due in an hour. */
const entrants: ReadonlyArray<ReadonlyArray<typeof Winner.Type>> = [
  ["left"],
  ["right"],
  ["left", "right"],
  ["clock"],
  ["left", "right", "clock"]
]

const run = Effect.fnUntraced(function*(n: number) {
  const racing = entrants[n % entrants.length]!
  const payload = { n, clock: racing.includes("clock") ? yield* moment : 3_600_000 }
  const executionId = yield* Race.executionId(payload)
  const of = { workflow: Race, executionId }
  const left = DurableDeferred.succeed(Left, {
    token: DurableDeferred.tokenFromExecutionId(Left, of),
    value: "left"
  })
  const right = DurableDeferred.succeed(Right, {
    token: DurableDeferred.tokenFromExecutionId(Right, of),
    value: "right"
  })
  const sometime = (completion: typeof left) => Effect.flatMap(moment, (pause) => Effect.delay(completion, pause))
  const [winner] = yield* Effect.all([
    Effect.flatMap(moment, (pause) => Effect.delay(Race.execute(payload), pause / 4)),
    racing.includes("left") ? sometime(left) : Effect.void,
    racing.includes("right") ? sometime(right) : Effect.void
  ], { concurrency: "unbounded" })
  return winner
})

/** In milliseconds: half of them while the other things happen as well, half of them while the race sleeps. */
const moment = Effect.flatMap(
  Random.nextBoolean,
  (soon) => Random.nextIntBetween(1, soon ? 60 : 1000)
)
