import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { Absurd, Mailbox, PostgresDriver, Step, Task } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import * as MailboxSuite from "../conformance/MailboxSuite.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

const client = Absurd.layerDriver().pipe(Layer.provide(PostgresDriver.layerWith({ notifications: false })))

MailboxSuite.suite("Mailboxes in memory", Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory))
MailboxSuite.suite(
  "Mailboxes on PostgreSQL",
  Layer.mergeAll(client, TestTime.layerSql).pipe(Layer.provide(TestPostgres.layer({ maxConnections: 1 })))
)
MailboxSuite.suite(
  "Mailboxes on the embedded store",
  Layer.mergeAll(client, TestTime.layerSql).pipe(Layer.provide(EmbeddedStore.layer))
)

const Asked = Mailbox.requests("asked", { payload: Schema.Int, reply: Schema.Int })
const Notes = Mailbox.make("notes", { payload: Schema.Int })

const Answering = Task.make("answering", { params: {} })
const Asking = Task.make("asking", { params: {}, success: Schema.Array(Schema.Int) })

const live = Layer.mergeAll(
  Answering.toLayer(Effect.fn(function*() {
    const request = yield* Asked.take
    yield* request.reply(request.payload * 2)
  }, Effect.orDie)),
  Asking.toLayer(Effect.fn(function*() {
    const first = yield* Notes.take
    const answering = yield* Answering.spawn({})
    const answer = yield* Asked.ask(answering, first)
    const second = yield* Step.race("second", { note: Notes.take, late: Effect.as(Step.sleep("late", "1 day"), 0) })
    return [first, answer, second]
  }, Effect.orDie))
)

layer(Layer.provideMerge(live, AbsurdTest.layer))("a crash at any point", (it) => {
  it.effect("neither loses a message nor doubles one", () =>
    Effect.gen(function*() {
      const { outcome, points } = yield* AbsurdTest.crashEverywhere(Asking, {}, {
        whenIdle: Effect.gen(function*() {
          const [asking] = yield* AbsurdTest.spawned(Asking)
          // Safe to do again, for whoever does it may have died in the middle of it.
          yield* Notes.send(asking!.taskId, 1, { id: "first" })
          yield* Notes.send(asking!.taskId, 2, { id: "second" })
        })
      })
      assert.deepStrictEqual(outcome.result, [1, 2, 2])
      assert.isAbove(points.length, 30)
    }))
})
