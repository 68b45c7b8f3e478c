/** What the processes of `Processes.long.test.ts` agree upon. */
import { Schema } from "effect"
import { DurableDeferred, Workflow } from "effect/workflow"

export const Approval = DurableDeferred.make("approval", { success: Schema.Int, error: Schema.Never })

export const Crashed = Workflow.make("Crashed", {
  payload: { number: Schema.Int },
  idempotencyKey: ({ number }) => String(number),
  success: Schema.Struct({ number: Schema.Int, child: Schema.Int, approved: Schema.Boolean })
})

export const CrashedChild = Workflow.make("CrashedChild", {
  payload: { number: Schema.Int },
  idempotencyKey: ({ number }) => String(number),
  success: Schema.Int
})
