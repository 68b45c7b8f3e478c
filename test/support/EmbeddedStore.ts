/** The embedded store with the schema installed, for suites of virtual time. */
import { Clock, Layer } from "effect"
import { Installation } from "effect-absurd"
import * as Embedded from "effect-absurd/Embedded"

// On a test clock its maintenance would be due a million times when a suite sets the year.
export const layer = Layer.provideMerge(Installation.layer, Embedded.layer()).pipe(
  Layer.provide(Layer.succeed(Clock.Clock, Clock.Clock.defaultValue()))
)
