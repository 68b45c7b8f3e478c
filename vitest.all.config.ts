/** Every test there is, short and long. `npm run test:matrix` takes what is about the store from it. */
import { defineConfig } from "vitest/config"
import { settings } from "./vitest.config.ts"

export default defineConfig({
  ...settings,
  test: { ...settings.test, exclude: [], testTimeout: 180_000 }
})
