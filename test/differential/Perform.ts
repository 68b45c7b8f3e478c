/** What a command asks of a store. */
import { Effect, Option } from "effect"
import { type Command, operationOf, type Simple } from "./Command.ts"
import { essence } from "./Names.ts"
import type { Place } from "./Operation.ts"

export type PlaceOf = (command: Simple, part: number) => Place

export const perform = (placeOf: PlaceOf, command: Command): Effect.Effect<unknown, unknown> => {
  if (command._tag !== "together") return simple(placeOf(command, 0), command)
  const answers: Array<unknown> = []
  const places = command.commands.map((inner, index) => placeOf(inner, index + 1))
  const [first] = places
  if (first === undefined) return Effect.void
  const { driver } = first
  const all = Effect.forEach(command.commands, (inner, index) => {
    const run = simple(places[index]!, inner)
    const last = index === command.commands.length - 1
    const done = command.nested && last
      ? Effect.map(Effect.exit(driver.withTransaction(Effect.andThen(run, Effect.fail({ _tag: "Undone" })))), essence)
      : run
    return Effect.tap(done, (answer) => Effect.sync(() => answers.push(answer)))
  }, { discard: true })
  const body = command.commit ? all : Effect.andThen(all, Effect.fail({ _tag: "Undone" }))
  return command.how === "exclusively"
    ? Effect.map(driver.exclusively(body), (done) => ({ ran: Option.isSome(done), answers }))
    : Effect.as(driver.withTransaction(body), answers)
}

// --- internal

const simple = (place: Place, { _tag, queue: _queue, ...fields }: Simple): Effect.Effect<unknown, unknown> =>
  operationOf(_tag).perform(place, fields)
