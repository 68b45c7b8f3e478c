/**
 * New stores in memory.
 *
 * Most of the time that a start takes goes into making the data of a new cluster, which is the same every time. A process
 * that starts a second store, as tests do, is about to start more: from the third on they begin with a copy.
 */
import type { PGlite } from "@electric-sql/pglite"

/** Starts an engine whose data is kept in memory. */
export const start = async (engine: typeof PGlite): Promise<PGlite> => {
  if (image !== undefined) return await engine.create({ dataDir: location, loadDataDir: await image })
  const started = await engine.create(location)
  // A program with one store would only pay for the copy.
  if (startedBefore && image === undefined) await take(started)
  startedBefore = true
  return started
}

// --- internal

const location = "memory://"

let startedBefore = false

/** The data of a store to which nothing has been done yet, about 40 MB. */
let image: Promise<Blob> | undefined

const take = async (started: PGlite): Promise<void> => {
  const taking = started.dumpDataDir("none")
  image = taking
  try {
    await taking
  } catch {
    // Those that come will do without.
    image = undefined
  }
}
