import type { TestProject } from "vitest/node"
import * as Server from "./Server.ts"

declare module "vitest" {
  export interface ProvidedContext {
    /** Where the PostgreSQL server of this test run is. */
    readonly postgres: Server.Location
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // Another version than that of the package, by the folder of its programs.
  const server = await Server.start({}, process.env["ABSURD_TEST_POSTGRES"], await Server.quickBase())
  project.provide("postgres", server.location)
  return server.stop
}
