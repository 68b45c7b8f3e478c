/** A TCP proxy on a free loopback port, whose connections can be cut or left hanging. */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"

export interface Proxy {
  readonly port: number
  /** Resets all connections, on both sides; returns how many there were. */
  readonly cut: () => number
  /** Lets nothing through any more on the connections there are, without telling anybody; after `millis` they are reset. */
  readonly stall: (millis: number) => void
  /**
   * From now on swallows what passes on the connections over which the near side has sent such a text, without telling
   * anybody; returns how many there are.
   */
  readonly swallow: (text: string) => number
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
    ({ pairs, sent, server }) => ({
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
      },
      swallow: (text) => {
        const chosen = [...pairs].filter((pair) => sent.get(pair)?.includes(text) === true)
        for (const [near, far] of chosen) {
          near.unpipe(far).resume()
          far.unpipe(near).resume()
        }
        return chosen.length
      }
    })
  )

/** Of each connection, in characters. */
const mostRemembered = 1_000_000

type Pair = readonly [near: Net.Socket, far: Net.Socket]

const reset = ([near, far]: Pair) => {
  near.resetAndDestroy()
  far.resetAndDestroy()
}

const listen = async (target: { readonly host: string; readonly port: number }) => {
  const pairs = new Set<Pair>()
  const sent = new WeakMap<Pair, string>()
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
    near.on("data", (bytes: Buffer) => {
      const before = sent.get(pair) ?? ""
      if (before.length < mostRemembered) sent.set(pair, before + bytes.toString("latin1"))
    })
    near.pipe(far)
    far.pipe(near)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return { pairs, sent, server }
}
