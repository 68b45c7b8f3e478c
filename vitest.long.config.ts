/** The tests that take minutes: other versions and shapes of the server, load, kills. `npm run test:long`. */
import { defineConfig } from "vitest/config"
import { settings } from "./vitest.config.ts"

export default defineConfig({
  ...settings,
  test: { ...settings.test, include: ["test/**/*.long.test.ts"], exclude: [], isolate: true, testTimeout: 180_000 }
})
