import { expect, it } from "@effect/vitest"
import { optionTables, withTables } from "../../build/optionTables.ts"
import type { OptionSpec } from "../../src/cli/OptionSpec.ts"
import { operatorCommands } from "../../src/cli/operator/options.ts"
import {
  fsmOptions,
  localMoveOptions,
  localOptions,
  nodeOptions,
  planOptions,
  validateOptions,
  variables
} from "../../src/cli/options.ts"

it("the tables for the README have a row for every option and variable", () => {
  const rows = optionTables()
    .split("\n")
    .filter((line) => line.startsWith("| `"))
  const asking = [...new Set(operatorCommands.flatMap(({ options }) => options.map(({ help }: OptionSpec) => help)))]
  const tables = [
    nodeOptions,
    localOptions,
    localMoveOptions,
    planOptions,
    validateOptions,
    fsmOptions,
    variables,
    asking
  ]
  expect(rows).toHaveLength(tables.flat().length)
  expect(rows).toContain(
    "| `-b, --pgbin <PGBIN>` | `postgres` | The postgres program; a bare name is looked up in PATH. Its tools are taken " +
      "from the same directory. Variable: `POSTGRES_PATH` |"
  )
  for (const row of rows) expect(row.replaceAll("\\|", "").split("|").length, row).toBeLessThan(6)
})

it("the tables replace what stands between their marks, twice with the same result", () => {
  const once = withTables("a\n<!-- options -->\nold\n<!-- /options -->\nb\n")
  expect(once).toMatch(/^a\n<!-- options -->\n\n`compute_ctl[\s\S]*\|\n\n<!-- \/options -->\nb\n$/u)
  expect(withTables(once ?? "")).toBe(once)
  expect(withTables("nothing")).toBeUndefined()
})
