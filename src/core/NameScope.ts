/**
 * The names of branches that run at the same time: what is put before the names of their steps.
 *
 * @since 0.1.0
 */
import { Context, Effect } from "effect"
import { InvalidUse } from "./Errors.ts"
import { byteLength, StepName } from "./Identifiers.ts"
import * as Input from "./Input.ts"

/**
 * The path of the branch that the calling code is in, each part followed by `/`; empty outside of branches.
 *
 * @since 0.1.0
 * @category references
 */
export const NameScope = Context.Reference<string>("effect-absurd/core/NameScope", { defaultValue: () => "" })

/**
 * A name within a path.
 *
 * @since 0.1.0
 * @category combinators
 */
export const within = (path: string, name: string): string => path + name

/**
 * Runs an effect in the branch `branch` of the path it is in. Dies with `InvalidUse` when the path becomes so long that
 * no name has room in it, and with `InvalidInput` when the branch is no name for a step.
 *
 * @since 0.1.0
 * @category combinators
 */
export const enter = <A, E, R>(self: Effect.Effect<A, E, R>, branch: string): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.orDie(checkBranch(branch)), () =>
    Effect.flatMap(NameScope, (outer) => {
      const path = `${outer}${branch}/`
      return byteLength(path) > maxBytes
        ? Effect.die(
          new InvalidUse({
            step: path,
            problem: `the names of nested branches take more than ${maxBytes} bytes; use shorter names or fewer levels`
          })
        )
        : Effect.provideService(self, NameScope, path)
    }))

// --- internal

const checkBranch = Input.check("branch", StepName)

/** Leaves room for a step's name of 256 bytes and what the library adds to it. */
const maxBytes = 256
