/**
 * The step that the calling code is part of.
 *
 * @since 0.1.0
 */
import { Context } from "effect"
import type { CheckpointName } from "./Identifiers.ts"

/**
 * Set while the effect of a step runs: its name within its branch, and its checkpoint, which has a number when the name
 * was used before.
 *
 * @since 0.1.0
 * @category references
 */
export const CurrentStep = Context.Reference<
  { readonly name: string; readonly checkpoint: CheckpointName } | undefined
>("effect-absurd/core/CurrentStep", { defaultValue: () => undefined })
