/** The program of the scenario `workflow`, as written against `effect/workflow`: nothing in it knows what executes it. */
import { Effect, Schema } from "effect"
import { Activity, Workflow } from "effect/workflow"

const ThreeActivities = Workflow.make("three-activities", {
  payload: { number: Schema.Int },
  idempotencyKey: ({ number }) => String(number),
  success: Schema.Int
})

const activity = (name: string) => Activity.make({ name, success: Schema.Int, execute: Effect.succeed(1) })

export const layer = ThreeActivities.toLayer(Effect.fnUntraced(function*() {
  return (yield* activity("a")) + (yield* activity("b")) + (yield* activity("c"))
}))

/** Starts executions, each of them a new one, and waits for their results. */
export const makeExecute = () => {
  let number = 0
  return Effect.suspend(() => ThreeActivities.execute({ number: number++ }))
}
