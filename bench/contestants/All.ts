import type { Contestant } from "../Contestant.ts"
import { absurdSdk } from "./AbsurdSdk.ts"
import { dbosDirect, dbosQueue } from "./Dbos.ts"
import { effectAbsurd } from "./EffectAbsurd.ts"
import { effectCluster } from "./EffectCluster.ts"
import { graphileLocalQueue, graphilePlain } from "./GraphileWorker.ts"
import { limit } from "./Limit.ts"
import { pgBossBatch, pgBossSingle } from "./PgBoss.ts"

/** Everybody, ourselves first. */
export const contestants: ReadonlyArray<Contestant> = [
  effectAbsurd,
  limit,
  absurdSdk,
  graphileLocalQueue,
  graphilePlain,
  pgBossBatch,
  pgBossSingle,
  dbosDirect,
  dbosQueue,
  effectCluster
]
