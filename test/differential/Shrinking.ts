/** Leaving out of a sequence what it can do without. */
import { Effect, Option } from "effect"

export interface Shown<C, D> {
  readonly commands: ReadonlyArray<C>
  readonly difference: D
}

/**
 * The shortest sequence that is found to show a difference, within so many tries: without ever smaller parts of what is
 * there, from the end on.
 */
export const shrink = <C, D extends { readonly place: number }>(
  first: Shown<C, D>,
  show: (commands: ReadonlyArray<C>) => Effect.Effect<D, unknown>,
  maxTries: number
): Effect.Effect<Shown<C, D>> =>
  Effect.gen(function*() {
    let best = cut(first)
    let tries = 0
    for (let size = Math.ceil(best.commands.length / 2); size > 0 && tries < maxTries;) {
      let isShorter = false
      for (let end = best.commands.length; end > 0 && tries < maxTries; end -= size) {
        const shorter = best.commands.toSpliced(Math.max(0, end - size), Math.min(size, end))
        tries++
        const difference = yield* Effect.option(show(shorter))
        if (Option.isNone(difference)) continue
        best = cut({ commands: shorter, difference: difference.value })
        isShorter = true
        end = Math.min(end, best.commands.length + size)
      }
      if (size > 1) size = Math.ceil(size / 2)
      else if (!isShorter) break
    }
    return best
  })

// --- internal

/** Without what comes after the difference. */
const cut = <C, D extends { readonly place: number }>({ commands, difference }: Shown<C, D>): Shown<C, D> => ({
  commands: commands.slice(0, difference.place + 1),
  difference
})
