/** All that a store must do: `Suites.all("my store", layer)` in a test file. */
import { describe } from "@effect/vitest"
import type { Layer } from "effect"
import type { Driver } from "../../src/core/Driver.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Await from "./AwaitSuite.ts"
import * as Cancel from "./CancelSuite.ts"
import * as Checkpoint from "./CheckpointSuite.ts"
import * as Claim from "./ClaimSuite.ts"
import * as Event from "./EventSuite.ts"
import * as Lease from "./LeaseSuite.ts"
import * as Limit from "./LimitSuite.ts"
import * as Listing from "./ListingSuite.ts"
import * as Pending from "./PendingSuite.ts"
import * as Queue from "./QueueSuite.ts"
import * as Result from "./ResultSuite.ts"
import * as Retry from "./RetrySuite.ts"
import * as Schedule from "./ScheduleSuite.ts"
import * as Sleep from "./SleepSuite.ts"
import * as Spawn from "./SpawnSuite.ts"
import * as State from "./StateSuite.ts"
import * as Transaction from "./TransactionSuite.ts"
import * as Upkeep from "./UpkeepSuite.ts"
import * as WorkerStore from "./WorkerStoreSuite.ts"
import * as WorkflowRun from "./WorkflowRunSuite.ts"

/** Each suite gets a store of its own, from `subject`. */
export const all = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  describe(name, () => {
    Queue.suite("queues", subject)
    Spawn.suite("spawning", subject)
    Pending.suite("tasks that have not been started", subject)
    Claim.suite("claiming", subject)
    Lease.suite("leases", subject)
    Checkpoint.suite("checkpoints", subject)
    State.suite("states", subject)
    Retry.suite("retrying", subject)
    Cancel.suite("cancelling", subject)
    Limit.suite("limits", subject)
    Schedule.suite("schedules", subject)
    Sleep.suite("sleeping", subject)
    Event.suite("events", subject)
    Await.suite("waiting for tasks", subject)
    Result.suite("results", subject)
    Listing.suite("lists of tasks", subject)
    Transaction.suite("transactions", subject)
    WorkflowRun.suite("workflow runs", subject)
    Upkeep.suite("upkeep", subject)
    WorkerStore.suite("what workers need", subject)
  })
