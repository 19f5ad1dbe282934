/** Prints the closing line `N passed, N failed`, counting broken files and layers as failures. */
import type { Reporter, TestModule } from "vitest/node"

/** Which of several runs it is. */
const { COMPUTE_CTL_TEST_PG: version } = process.env
const title = version === undefined ? "" : `PG ${version}: `

export default class CountReporter implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, errors: ReadonlyArray<unknown>): void {
    let passed = 0
    let failed = errors.length
    for (const module of modules) {
      failed += module.errors().length
      for (const suite of module.children.allSuites()) failed += suite.errors().length
      for (const test of module.children.allTests()) {
        const state = test.result().state
        if (state === "passed") passed++
        else if (state === "failed") failed++
      }
    }
    process.stdout.write(`${title}${passed} passed, ${failed} failed\n`)
  }
}
