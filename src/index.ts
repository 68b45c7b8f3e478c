/**
 * Durable execution for Effect programs, on nothing but PostgreSQL.
 *
 * @since 0.1.0
 */

/** The client and its layers. @since 0.1.0 */
export * as Absurd from "./layers/Absurd.ts"
/** Limits after which the store cancels a task. @since 0.1.0 */
export * as CancellationPolicy from "./core/CancellationPolicy.ts"
/** Tasks that are spawned at the instants of a cron expression. @since 0.1.0 */
export * as Cron from "./core/Cron.ts"
/** The run that the calling code is part of. @since 0.1.0 */
export { CurrentRun } from "./core/CurrentRun.ts"
/** The contract between the library and a store; for those who write drivers. @since 0.1.0 */
export * as Driver from "./core/Driver.ts"
/** How runs are executed. @since 0.1.0 */
export * as Engine from "./core/Engine.ts"
/** Everything that can go wrong. @since 0.1.0 */
export * as Errors from "./core/Errors.ts"
/** Definitions of events. @since 0.1.0 */
export * as Event from "./core/Event.ts"
/** Code of the program around every spawn and every execution. @since 0.1.0 */
export * as Hooks from "./core/Hooks.ts"
/** Names and ids. @since 0.1.0 */
export * as Identifiers from "./core/Identifiers.ts"
/** What always holds of a queue. @since 0.1.0 */
export * as Invariants from "./core/Invariants.ts"
/** How many tasks of a key run at a time, and how many start in a while. @since 0.1.0 */
export * as Limit from "./core/Limit.ts"
/** Retry policies: a strategy of the wire, or a schedule. @since 0.1.0 */
export * as RetryPolicy from "./core/RetryPolicy.ts"
/** Retry strategies that every language understands. @since 0.1.0 */
export * as RetryStrategy from "./core/RetryStrategy.ts"
/** What a task does durably. @since 0.1.0 */
export * as Step from "./core/Step.ts"
/** What may be stored. @since 0.1.0 */
export * as Stored from "./core/Stored.ts"
/** Definitions of tasks. @since 0.1.0 */
export * as Task from "./core/Task.ts"
/** References to spawned tasks. @since 0.1.0 */
export * as TaskHandle from "./core/TaskHandle.ts"
/** Spans, metrics and annotations of logs. @since 0.1.0 */
export * as Telemetry from "./layers/Telemetry.ts"
/** Many messages to one task, each taken once and in order. @since 0.1.0 */
export * as Mailbox from "./core/Mailbox.ts"
/** Looking after a store while a program runs. @since 0.1.0 */
export * as Maintenance from "./layers/Maintenance.ts"
/** The store in memory. @since 0.1.0 */
export * as MemoryDriver from "./drivers/memory/MemoryDriver.ts"
/** Installing the schema. @since 0.1.0 */
export * as Installation from "./drivers/postgres/Installation.ts"
/** The store on PostgreSQL. @since 0.1.0 */
export * as PostgresDriver from "./drivers/postgres/PostgresDriver.ts"
/** Looking for what must not be in a live database. @since 0.1.0 */
export * as Doctor from "./layers/Doctor.ts"
/** The worker and its layers. @since 0.1.0 */
export * as Worker from "./layers/Worker.ts"
