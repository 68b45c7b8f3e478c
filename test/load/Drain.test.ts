/** A small drain by processes of both sides. Those of thousands of tasks are in Drain.long.test.ts. */
import { NodeServices } from "@effect/platform-node"
import { layer } from "@effect/vitest"
import * as Drain from "./Drain.ts"

layer(NodeServices.layer, { excludeTestServices: true })("worker processes", (it) => {
  it.effect(
    "one of absurd-sdk and one of ours complete 200 mixed tasks of both from one queue, nothing lost or doubled",
    () => Drain.mixed(40, 1),
    60_000
  )
})
