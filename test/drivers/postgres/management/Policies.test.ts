import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Session from "./Session.ts"

const set = "select absurd.set_queue_policy($1, $2)"

Session.everywhere("queue policies", (it) => {
  it.effect("defaults, as text and in their units", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('defaults')")
      assert.deepStrictEqual(
        yield* sql.rows(`
          select queue_name, storage_mode, default_partition, partition_lookahead::text, partition_lookback::text,
            cleanup_ttl::text, cleanup_limit, detach_mode, detach_min_age::text
          from absurd.get_queue_policy('defaults')
        `),
        [{
          queue_name: "defaults",
          storage_mode: "unpartitioned",
          default_partition: "enabled",
          partition_lookahead: "28 days",
          partition_lookback: "1 day",
          cleanup_ttl: "30 days",
          cleanup_limit: 1000,
          detach_mode: "none",
          detach_min_age: "30 days"
        }]
      )
      assert.deepStrictEqual(yield* sql.rows("select * from absurd.get_queue_policy('unknown')"), [])
    }))

  it.effect("changes only what it names, and keeps the unit given", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('changed')")
      yield* sql.rows(set, "changed", { cleanup_ttl: "35 days", detach_mode: " EMPTY " })
      yield* sql.rows(set, "changed", { cleanup_limit: 5, partition_lookahead: null })
      yield* sql.rows(set, "changed", {})
      yield* sql.rows(set, "changed", null)
      assert.deepStrictEqual(
        yield* sql.rows(`
          select cleanup_ttl::text, cleanup_limit, detach_mode, partition_lookahead::text
          from absurd.get_queue_policy('changed')
        `),
        [{ cleanup_ttl: "35 days", cleanup_limit: 5, detach_mode: "empty", partition_lookahead: "28 days" }]
      )
    }))

  it.effect("refuses what it cannot keep, and then changes nothing", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('strict')")
      const before = yield* sql.rows("select q::text from absurd.queues as q where queue_name = 'strict'")
      const refused: ReadonlyArray<readonly [policy: unknown, message: string]> = [
        ["[]", "Queue policy must be a JSON object"],
        ["null", "Queue policy must be a JSON object"],
        [{ cleanup_limit: 2, colour: "red" }, "Unsupported queue policy key \"colour\""],
        [{ cleanup_limit: 2, storage_mode: "partitioned" }, "Unsupported queue policy key \"storage_mode\""],
        [{ cleanup_limit: 2, cleanup_ttl: "-1 day" }, "cleanup_ttl must be non-negative"],
        [{ cleanup_limit: 2, partition_lookahead: "-1 second" }, "partition_lookahead must be non-negative"],
        [{ cleanup_limit: 2, partition_lookback: "-1 second" }, "partition_lookback must be non-negative"],
        [{ cleanup_limit: 2, detach_min_age: "-1 second" }, "detach_min_age must be non-negative"],
        [{ cleanup_limit: 0 }, "cleanup_limit must be at least 1"],
        [{ detach_mode: "all" }, "Unsupported detach mode \"all\""],
        [
          { default_partition: "enabled" },
          "default_partition policy is only supported for partitioned queues"
        ],
        [{ default_partition: "off" }, "Unsupported default_partition mode \"off\""]
      ]
      for (const [policy, message] of refused) {
        assert.deepStrictEqual(yield* sql.refusal(set, "strict", policy), { code: "P0001", message })
      }
      assert.deepStrictEqual(yield* sql.refusal(set, "nowhere", {}), {
        code: "P0001",
        message: "Queue \"nowhere\" does not exist"
      })
      assert.deepStrictEqual(
        yield* sql.rows("select q::text from absurd.queues as q where queue_name = 'strict'"),
        before
      )
    }))

  it.effect("changes of one queue take turns", () =>
    Effect.gen(function*() {
      const [sql, other] = yield* Effect.all([Session.another, Session.another])
      yield* sql.rows("select absurd.create_queue('turns')")
      yield* sql.rows("begin")
      yield* sql.rows(set, "turns", { cleanup_limit: 11 })
      const second = yield* Effect.forkChild(other.rows(set, "turns", { cleanup_ttl: "2 days" }))
      yield* Session.blocked(sql, other.pid)
      yield* sql.rows("commit")
      yield* Fiber.join(second)
      assert.deepStrictEqual(
        yield* sql.rows("select cleanup_limit, cleanup_ttl::text from absurd.get_queue_policy('turns')"),
        [{ cleanup_limit: 11, cleanup_ttl: "2 days" }]
      )
    }))
})
