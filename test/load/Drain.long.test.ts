/** Many worker processes on one queue: every task and every step once, with nothing in the server's log. */
import { NodeServices } from "@effect/platform-node"
import { layer } from "@effect/vitest"
import * as Drain from "./Drain.ts"

layer(NodeServices.layer, { excludeTestServices: true })("worker processes", (it) => {
  it.effect(
    "ten complete 10,000 tasks of three steps, each task and each step once",
    () => Drain.threeSteps(10_000, 10),
    300_000
  )

  it.effect(
    "two of absurd-sdk and two of ours complete 5,000 mixed tasks of both from one queue, nothing lost or doubled",
    () => Drain.mixed(1000, 2),
    300_000
  )
})
