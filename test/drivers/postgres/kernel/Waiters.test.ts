/**
 * What waking costs where very many wait for one thing, or one waits for very many: as much as it touches.
 *
 * @internal
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Backlog from "./Backlog.ts"
import * as Sessions from "./Sessions.ts"

const { assertNarrow, plansOf } = Backlog
const { query } = Sessions

const many = 1500

const suite = (name: string, options: Backlog.Options) =>
  layer(Backlog.layer(options).pipe(Layer.provide(TestPostgres.layer())), {
    concurrent: false,
    timeout: "2 minutes"
  })(name, (it) => {
    for (const failFast of [true, false]) {
      it.effect(`the end of some of the tasks that a run awaits does not look at the others, failFast ${failFast}`, () =>
        Effect.gen(function*() {
          const { client } = yield* Backlog.Backlog
          const runs = yield* Sessions.claim(client, "big", "mine", 11)
          const [parent, ...ended] = runs
          const tasks = yield* query(
            client,
            `select task_id from absurd.r_big where run_id = any ($1::uuid[])
             union all (select task_id from absurd.t_big where state = 'pending' limit ${many})`,
            [ended]
          )
          const wait = { step: "all", queue: "big", tasks: tasks.map((row) => row["task_id"]), failFast }
          const answer = yield* Sessions.suspend(client, "big", parent!, "mine", [wait])
          assert.strictEqual(answer["suspended"], true)
          const items = JSON.stringify(ended.map((run) => ({ run, token: "mine", result: 1 })))
          const { nodes } = yield* plansOf("select * from absurd_effect.complete('big', $1::jsonb)", [items])
          assertNarrow(nodes, 20)
          const left = yield* query(client, "select count(*)::int as n from absurd.w_big where run_id = $1", [parent])
          assert.deepStrictEqual(left, [{ n: many }])
          assert.strictEqual((yield* Sessions.run(client, "big", parent!))["state"], "sleeping")
        }))
    }

    it.effect("an emit looks once at each of those who wait", () =>
      Effect.gen(function*() {
        const { client } = yield* Backlog.Backlog
        yield* query(
          client,
          `with waiter as (
            update absurd.r_big set wake_event = 'common'
            where run_id in (select run_id from absurd.w_big where step_name = 'step' limit ${many})
            returning run_id
          )
          update absurd.w_big w set event_name = 'common' from waiter where w.run_id = waiter.run_id`
        )
        const { nodes, rows } = yield* plansOf("select * from absurd_effect.emit('big', 'common', '1')")
        assert.deepStrictEqual(rows, [{ emitted: true, woken: many }])
        assertNarrow(nodes, 2 * many)
      }))
  })

suite("of 20,000 tasks, never analysed", { mode: "unpartitioned", size: 5000, analysed: false })
suite("of 20,000 tasks, analysed", { mode: "unpartitioned", size: 5000, analysed: true })
suite("of 20,000 tasks, partitioned and never analysed", { mode: "partitioned", size: 5000, analysed: false })
suite("of 20,000 tasks, partitioned and analysed", { mode: "partitioned", size: 5000, analysed: true })
