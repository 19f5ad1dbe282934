/**
 * Tables of options and variables for the README, made from the tables that the program parses by.
 *
 * Prints them. With a file: writes them between its lines `<!-- options -->` and `<!-- /options -->`; with `--check`,
 * too, the file stays and a difference is exit code 1.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { label, type OptionTable } from "../src/cli/OptionSpec.ts"
import { type OperatorCommand, operatorCommands, plainOptions } from "../src/cli/operator/options.ts"
import {
  fsmOptions,
  localMoveOptions,
  localOptions,
  nodeOptions,
  planOptions,
  validateOptions,
  variables
} from "../src/cli/options.ts"

/** Text of a table cell. */
const cell = (text: string): string => text.replaceAll("|", "\\|")
const code = (text: string | undefined): string => (text === undefined ? "" : `\`${cell(text)}\``)

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |\n`).join("")

const optionRows = (options: OptionTable): ReadonlyArray<ReadonlyArray<string>> =>
  options
    .filter((spec) => spec.hidden !== true)
    .map((spec) => [
      code(spec.short === undefined ? label(spec) : `-${spec.short}, ${label(spec)}`),
      spec.required === true ? "required" : code(spec.default),
      cell(spec.help) + (spec.env === undefined ? "" : `. Variable: ${code(spec.env)}`)
    ])

const usageAndTable = (command: string, options: OptionTable): ReadonlyArray<string> => [
  `\`${command} [OPTIONS]\``,
  table(["Option", "Default", "Meaning"], optionRows(options))
]

/** One table for all of them, since most of their options are the same. */
const operatorTables = (): ReadonlyArray<string> => {
  const own = operatorCommands.flatMap(({ name, options }: OperatorCommand) =>
    options
      .filter((spec) => !plainOptions.some((common) => common.name === spec.name))
      .map((spec) => ({ ...spec, help: `\`${name}\`: ${spec.help}` }))
  )
  return usageAndTable(operatorCommands.map(({ name }) => `compute_ctl ${name}`).join("`, `"), [
    ...own,
    ...plainOptions
  ])
}

export const optionTables = (): string =>
  [
    ...usageAndTable("compute_ctl", nodeOptions),
    ...usageAndTable("compute_ctl local", localOptions),
    ...usageAndTable("compute_ctl local move", localMoveOptions),
    ...usageAndTable("compute_ctl plan", planOptions),
    ...usageAndTable("compute_ctl validate", validateOptions),
    ...usageAndTable("compute_ctl fsm", fsmOptions),
    ...operatorTables(),
    "Variables of the environment",
    table(
      ["Variable", "Meaning"],
      variables.map(({ help, name }) => [code(name), cell(help)])
    )
  ].join("\n\n")

const [begin, end] = ["<!-- options -->", "<!-- /options -->"]

/** The text with fresh tables; undefined where it has no place for them. */
export const withTables = (text: string): string | undefined => {
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  return from < 0 || to < from ? undefined : `${text.slice(0, from)}${begin}\n\n${optionTables()}\n${text.slice(to)}`
}

if (import.meta.main) {
  const [file, check] = process.argv.slice(2)
  if (file === undefined) {
    process.stdout.write(optionTables())
  } else {
    const text = readFileSync(file, "utf8")
    const fresh = withTables(text)
    if (fresh === undefined) throw new Error(`${file} has no lines ${begin} and ${end}`)
    if (check === undefined) writeFileSync(file, fresh)
    else if (fresh !== text) {
      process.stderr.write(`${file}: the tables of options are not up to date\n`)
      process.exitCode = 1
    }
  }
}
