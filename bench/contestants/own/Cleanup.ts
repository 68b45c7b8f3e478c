import { Absurd } from "effect-absurd"
import { queue } from "../AbsurdTables.ts"
import type { Own, Runtime } from "./Own.ts"

/** What the tables were filled with ended an hour ago. */
export const cleanup = (runtime: Runtime): Own["cleanup"] => (limit) =>
  runtime.runPromise(Absurd.cleanupTasks({ queue, ttl: "30 minutes", limit }))
