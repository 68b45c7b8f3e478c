/** The stores that are compared, and sequences of operations that once told them apart. */
import { Effect, Option } from "effect"
import { SqlClient } from "effect/sql/SqlClient"
import { Driver } from "../../src/core/Driver.ts"
import type { Violation } from "../../src/core/Invariants.ts"
import * as MemoryDriver from "../../src/drivers/memory/MemoryDriver.ts"
import * as DoctorSql from "../../src/drivers/postgres/DoctorSql.ts"
import { TestStore } from "../../src/layers/testkit/TestStore.ts"
import type { Command } from "./Command.ts"
import * as Differential from "./Differential.ts"
import type { Subject } from "./Subject.ts"

/** A new store in memory, which lives on the test clock. */
export const inMemory = (name: string, make: typeof MemoryDriver.make): Effect.Effect<Subject> =>
  Effect.map(make, ({ driver, store }) => ({ name, driver, setTime: () => Effect.void, dump: store.dump }))

export const memory: Effect.Effect<Subject> = inMemory("memory", MemoryDriver.make)

/** The store that the layer of the test provides. */
export const provided = (name: string) =>
  Effect.gen(function*() {
    const [driver, store] = yield* Effect.all([Driver, TestStore])
    const sql = yield* Effect.serviceOption(SqlClient)
    const subject: Subject = { name, driver, ...store }
    return Option.isNone(sql) ? subject : {
      ...subject,
      doctor: (queue): ReturnType<NonNullable<Subject["doctor"]>> =>
        sql.value.withoutTransforms().unsafe<Violation>(DoctorSql.statement(queue, 5))
    } satisfies Subject
  })

/** Fails unless the provided store answers this sequence as memory does. A difference that was found prints a call of it. */
export const replay = (commands: ReadonlyArray<Command>) =>
  Effect.gen(function*() {
    yield* Differential.compareAll(yield* memory, yield* provided("the provided store"), commands)
  })
