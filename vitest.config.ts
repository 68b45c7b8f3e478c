import { defineConfig } from "vitest/config"
import { LongestFirst } from "./test/support/LongestFirst.ts"

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)
if (major < 22 || (major === 22 && minor < 19)) {
  throw new Error(
    `The tests need Node 22.19 or newer, but run on ${process.versions.node}. ` +
      `Use "npm test" or "npx vitest run", which take the Node that this project pins.`
  )
}

// "source" makes `effect-absurd/...` mean the files in src, so that nothing has to be built first.
const conditions = ["source"]

export const settings = {
  resolve: { conditions: [...conditions, "module", "node", "development|production"] },
  ssr: { resolve: { conditions: [...conditions, "module", "node", "development|production"] } },
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/**/*.long.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    // Most tests wait for a server half of the time.
    maxWorkers: 2,
    // A process of its own for each file would cost it half a second. Files undo what they change in the process.
    isolate: false,
    sequence: { sequencer: LongestFirst },
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000
  }
}

export default defineConfig(settings)
