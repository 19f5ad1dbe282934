import { expect, it } from "@effect/vitest"
import { optionTables, withTables } from "../../build/optionTables.ts"
import { localOptions, nodeOptions, planOptions, validateOptions, variables } from "../../src/cli/options.ts"

it("the tables for the README have a row for every option and variable", () => {
  const rows = optionTables()
    .split("\n")
    .filter((line) => line.startsWith("| `"))
  expect(rows).toHaveLength([nodeOptions, localOptions, planOptions, validateOptions, variables].flat().length)
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
