/** A TCP proxy on a free loopback port, whose connections can be cut or left hanging. */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"

export interface Proxy {
  readonly port: number
  /** Resets all connections, on both sides; returns how many there were. */
  readonly cut: () => number
  /** Lets nothing through any more on the connections there are, without telling anybody; after `millis` they are reset. */
  readonly stall: (millis: number) => void
}

export const make = (target: { readonly host: string; readonly port: number }): Effect.Effect<
  Proxy,
  never,
  Scope.Scope
> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => listen(target)),
      ({ pairs, server }) =>
        Effect.promise(() => {
          pairs.forEach(reset)
          return new Promise<void>((resolve) => server.close(() => resolve()))
        })
    ),
    ({ pairs, server }) => ({
      port: (server.address() as Net.AddressInfo).port,
      cut: () => {
        const count = pairs.size
        pairs.forEach(reset)
        return count
      },
      stall: (millis) => {
        const stalled = [...pairs]
        for (const [near, far] of stalled) {
          near.unpipe(far).pause()
          far.unpipe(near).pause()
        }
        setTimeout(() => stalled.forEach(reset), millis).unref()
      }
    })
  )

type Pair = readonly [near: Net.Socket, far: Net.Socket]

const reset = ([near, far]: Pair) => {
  near.resetAndDestroy()
  far.resetAndDestroy()
}

const listen = async (target: { readonly host: string; readonly port: number }) => {
  const pairs = new Set<Pair>()
  const server = Net.createServer((near) => {
    const far = Net.connect(target)
    const pair: Pair = [near, far]
    pairs.add(pair)
    for (const socket of pair) {
      socket.setNoDelay(true)
      // The other side hears of it by the close that follows.
      socket.on("error", () => {})
      socket.on("close", () => {
        pairs.delete(pair)
        pair.forEach((other) => other.destroy())
      })
    }
    near.pipe(far)
    far.pipe(near)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return { pairs, server }
}
