/** Who takes part only when asked by name: ourselves, on pools of other sizes and kinds. */
import type { ClientPool, Contestant } from "../Contestant.ts"
import { effectAbsurd } from "./EffectAbsurd.ts"

const variant = (name: string, about: string, clientPool: ClientPool): Contestant => ({
  name,
  about,
  open: ({ url }) => effectAbsurd.open({ url, clientPool })
})

export const variants: ReadonlyArray<Contestant> = [
  ...[2, 4, 20].map((maxConnections) =>
    variant(`pool of ${maxConnections}`, `effect-absurd with ${maxConnections} connections`, { maxConnections })
  ),
  ...[4, 10].map((maxConnections) =>
    variant(`multiplexed pool of ${maxConnections}`, `effect-absurd with ${maxConnections} multiplexed connections`, {
      maxConnections,
      multiplex: true
    })
  )
]
