/**
 * The versions of PostgreSQL that there are to test on: the server of the test run, and every version from 14 on that this
 * machine has in /usr/lib/postgresql.
 */
import { Context, Effect, Layer } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Server from "../../../support/Server.ts"

export class Place extends Context.Service<Place, Server.Location>()("test/management/Place") {}

/**
 * The folders of the programs of the versions that this machine has; none when the server of the test run was chosen, as
 * `npm run test:matrix` does, for that one is meant.
 */
export const installed: ReadonlyArray<readonly [version: string, bin: string]> = (() => {
  if (process.env["ABSURD_TEST_POSTGRES"] !== undefined) return []
  const folder = "/usr/lib/postgresql"
  return (Fs.existsSync(folder) ? Fs.readdirSync(folder) : [])
    .map((version) => [version, Path.join(folder, version, "bin")] as const)
    .filter(([version, bin]) => Number(version) >= 14 && Fs.existsSync(Path.join(bin, "initdb")))
})()

/** A server of another version, as long as its scope. */
export const layerInstalled = (bin: string, settings: Readonly<Record<string, string>> = {}): Layer.Layer<Place> =>
  Layer.effect(
    Place,
    Effect.map(
      Effect.acquireRelease(
        Effect.promise(async () => Server.start(settings, bin, await Server.quickBase())),
        (server) => Effect.promise(() => server.stop())
      ),
      (server) => server.location
    )
  )

export const all: ReadonlyArray<readonly [name: string, place: Layer.Layer<Place>]> = [
  ["the server of the test run", Layer.sync(Place, TestPostgres.serverLocation)],
  ...installed.map(([version, bin]) => [`PostgreSQL ${version}`, layerInstalled(bin)] as const)
]
