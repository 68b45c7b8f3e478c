/** What another installation of Absurd does wrong, and what the driver beside it makes of that. */
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"
import { Absurd, Maintenance, Worker } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as Fixture from "../../conformance/Fixture.ts"
import * as ForeignPostgres from "../../support/ForeignPostgres.ts"
import * as TestTime from "../../support/TestTime.ts"

/** Offers every weekly partition that is empty and over, whatever lives in the other tables of that week. */
const trusting = `
  create or replace function absurd.list_detach_candidates(p_queue_name text default null)
  returns table (queue_name text, parent_table text, partition_table text)
  language plpgsql
  as $$
  declare
    v_queue text;
    v_table record;
  begin
    for v_queue in select q.queue_name from absurd.queues as q where q.detach_mode = 'empty' loop
      for v_table in
        select p.parent_name, p.partition_name from absurd.weekly_partitions(v_queue) as p
        where absurd.uuidv7_timestamp(p.upper_id) < absurd.current_time()
      loop
        if not absurd.has_rows(v_table.partition_name) and v_queue = coalesce(p_queue_name, v_queue) then
          return query select v_queue, v_table.parent_name, v_table.partition_name;
        end if;
      end loop;
    end loop;
  end
  $$`

const subject = Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(
  Layer.provideMerge(ForeignPostgres.layer({ maxConnections: 1 }))
)

layer(subject, { concurrent: false })("beside another installation", (it) => {
  it.effect("a week is kept while one of its tasks may go on, whatever is offered for removal", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { advance } = yield* TestTime.TestTime
      yield* sql.unsafe(trusting).unprepared
      const queue: string = Fixture.freshQueue()
      yield* Absurd.createQueue(queue, { storage: "partitioned" })
      yield* Absurd.setQueuePolicy(queue, {
        defaultPartition: "disabled",
        detachMode: "empty",
        detachMinAge: Duration.zero
      })
      const { taskId } = yield* Absurd.spawnTask("job", null, { queue })
      const [run] = yield* Absurd.claimTask({ queue })
      assert.isDefined(run)
      const wait = yield* Effect.flip(Absurd.waitForEvent(run, "event"))
      assert.strictEqual(wait._tag, "Sleep")
      yield* advance("8 days")
      yield* Absurd.ensurePartitions(queue)
      const offered = yield* Absurd.listDetachCandidates(queue)
      assert.deepInclude(offered, { queue, parent: `c_${queue}`, partition: `c_${queue}_602` })
      const { detached } = yield* Maintenance.runOnce()
      assert.isAbove(detached.length, 0)
      assert.deepStrictEqual(detached.filter(({ partition }) => partition.endsWith("_602")), [])

      // It goes on, and writes into that week.
      yield* Absurd.emitEvent("event", "went", { queue })
      const [again] = yield* Absurd.claimTask({ queue })
      yield* Absurd.setCheckpoint(again!, "step", 1)
      yield* Absurd.completeTask(again!, "done")
      assert.strictEqual((yield* Absurd.getTaskStatus(taskId, { queue })).state, "completed")
    }))

  it.effect("a queue that was dropped by somebody else and made again is not paused", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { advance } = yield* TestTime.TestTime
      const queue: string = Fixture.freshQueue()
      yield* Absurd.createQueue(queue)
      assert.isTrue(yield* Worker.pause(queue))
      assert.isFalse(yield* Worker.pause(queue))
      yield* sql`SELECT absurd.drop_queue(${queue})`
      assert.lengthOf(yield* sql`SELECT FROM absurd_effect.paused_queues WHERE queue_name = ${queue}`, 1)
      yield* advance("1 second")
      yield* Absurd.createQueue(queue)
      yield* Absurd.spawnTask("job", null, { queue })
      assert.isFalse((yield* Worker.load(queue)).paused)
      assert.lengthOf(yield* Absurd.claimTask({ queue }), 1)
      assert.isFalse(yield* Worker.resume(queue))
      yield* Absurd.spawnTask("job", null, { queue })
      assert.isTrue(yield* Worker.pause(queue))
      assert.lengthOf(yield* Absurd.claimTask({ queue }), 0)
      assert.isTrue(yield* Worker.resume(queue))
      assert.lengthOf(yield* Absurd.claimTask({ queue }), 1)
    }))
})
