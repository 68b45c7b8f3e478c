import { Effect, Schema } from "effect"
import { Step, Task } from "effect-absurd"

export const SendEmail = Task.make("send-email", {
  queue: "emails",
  params: { to: Schema.String },
  success: Schema.String
})

export const SendEmailLive = SendEmail.toLayer(({ to }) => Step.run("send", Effect.succeed(`sent to ${to}`)))

export const MakeReport = Task.make("make-report", {
  queue: "reports",
  params: { month: Schema.String },
  success: Schema.String
})

export const MakeReportLive = MakeReport.toLayer(({ month }) => Step.run("make", Effect.succeed(`report of ${month}`)))
