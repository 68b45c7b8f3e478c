/** How much is compared, and from where. */

const number = (name: string): number | undefined => {
  const text = process.env[name]
  return text === undefined ? undefined : Number(text)
}

// Where changes are judged the sequences are always the same; everywhere else they are new ones each time.
const inCi = process.env.CI !== undefined

/** The seed of the sequences that are compared where changes are judged. */
export const ciSeed = 2076
/** How many operations are compared there, of each store. */
export const ciOperations = 20_000

export const seed = number("DIFFERENTIAL_SEED") ?? (inCi ? ciSeed : Math.floor(Math.random() * 2 ** 31))
export const operations = number("DIFFERENTIAL_OPERATIONS") ?? (inCi ? ciOperations : 2000)

/** Operations of one test. A larger number is that of several, each from a seed of its own. */
const part = 20_000
/** Many times what an operation takes on a machine that is not busy. */
const timeout = 60

/** The parts that the operations are split into. */
export const parts = Array.from({ length: Math.ceil(operations / part) }, (_, place) => {
  const count = Math.min(part, operations - place * part)
  // An operation is more than nothing, so no two parts explore the same seeds.
  return { seed: seed + place * part, operations: count, timeout: 60_000 + count * timeout }
})
