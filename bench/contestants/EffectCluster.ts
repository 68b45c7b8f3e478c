/** Effect's own workflow engine, on a cluster of one runner with its messages in PostgreSQL. */
import { PgClient } from "@effect/sql-pg"
import { Layer, Logger, ManagedRuntime, Redacted } from "effect"
import { ClusterWorkflowEngine, SingleRunner } from "effect/cluster"
import { Digest } from "effect/crypto"
import type { Contestant } from "../Contestant.ts"
import * as Workflow from "./Workflow.ts"

export const effectCluster: Contestant = {
  name: "Effect cluster",
  about: "ClusterWorkflowEngine on SingleRunner, without simulated serialization; a pool of ten connections",
  open: async ({ url }) => {
    const runtime = ManagedRuntime.make(
      Workflow.layer.pipe(
        Layer.provideMerge(ClusterWorkflowEngine.layer),
        Layer.provide(SingleRunner.layer({ shardingConfig: { simulateRemoteSerialization: false } })),
        Layer.provide([PgClient.layer({ url: Redacted.make(url), maxConnections: 10 }), Digest.layerWebCrypto]),
        Layer.provide(Logger.layer([]))
      )
    )
    const execute = Workflow.makeExecute()
    return {
      hasSteps: false,
      executeWorkflow: () => runtime.runPromise(execute),
      close: () => runtime.dispose()
    }
  }
}
