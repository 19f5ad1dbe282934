import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    setupFiles: ["./test/support/contractSetup.ts"],
    reporters: ["default", "./test/support/reporter.ts"],
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000
  }
})
