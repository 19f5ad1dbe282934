/** Texts of `--help` and `--version`, made from the table of options. */
import { label, type OptionSpec, type OptionTable } from "./OptionSpec.ts"
import type { OperatorCommand } from "./operator/options.ts"
import {
  commands,
  fsmOptions,
  localMoveOptions,
  localOptions,
  nodeOptions,
  planOptions,
  validateOptions,
  variables
} from "./options.ts"
import { buildTag, version } from "./version.ts"

const width = 100

/** Breaks a text into indented lines of at most `width` columns. */
const wrap = (text: string, indent: string): string => {
  const lines: Array<string> = []
  let line = ""
  for (const word of text.split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else {
      line = line === "" ? word : `${line} ${word}`
    }
  }
  return [...lines, line].map((one) => `${indent}${one}\n`).join("")
}

const notes = (spec: OptionSpec): string =>
  [
    spec.required === true ? "required" : undefined,
    spec.env === undefined ? undefined : `env: ${spec.env}`,
    spec.default === undefined ? undefined : `default: ${spec.default}`
  ]
    .filter((note) => note !== undefined)
    .map((note) => ` [${note}]`)
    .join("")

const option = (spec: OptionSpec): string =>
  `  ${spec.short === undefined ? "   " : `-${spec.short},`} ${label(spec)}\n${wrap(spec.help + notes(spec), " ".repeat(10))}`

const options = (table: OptionTable): string =>
  `Options:\n${table
    .filter((spec) => spec.hidden !== true)
    .map(option)
    .join("\n")}`

const entries = (title: string, list: ReadonlyArray<{ readonly name: string; readonly help: string }>): string =>
  `${title}:\n${list.map(({ help, name }) => `  ${name}\n${wrap(help, " ".repeat(10))}`).join("")}`

export const nodeHelp = (): string => `\
Prepares, starts, configures and watches one Postgres whose data live in remote storage

Usage: compute_ctl [OPTIONS]
       compute_ctl <COMMAND> [OPTIONS]

${entries("Commands", commands)}
${options(nodeOptions)}
${entries("Environment", variables)}`

export const localHelp = (): string => `\
Runs Postgres on this machine with emulated storage and control plane, until Ctrl-C

Usage: compute_ctl local [OPTIONS]
       compute_ctl local move [OPTIONS]   (moves what runs to another pageserver)

${options(localOptions)}`

export const localMoveHelp = (): string => `\
Moves the databases of the local mode that runs to another of its pageservers, while it runs

Exit code 0: the compute has the new address, or had it; 1: it has not.

Usage: compute_ctl local move [OPTIONS]

${options(localMoveOptions)}`

export const planHelp = (): string => `\
Shows the SQL that would bring the roles, databases and grants of a server up to a spec, and why

Nothing is changed. Exit code 0: nothing to do; 3: something; 1: file or server cannot be read.

Usage: compute_ctl plan --config <FILE> --connstr <URL> [OPTIONS]

${options(planOptions)}`

export const validateHelp = (): string => `\
Checks a configuration file, without a server

Exit code 0: a node can use it; 1: it cannot, and the message names the field.

Usage: compute_ctl validate --config <FILE> [OPTIONS]

${options(validateOptions)}`

export const operatorHelp = ({ about, help, name, options: table }: OperatorCommand): string => {
  const words = table.filter((spec) => spec.positional === true).map((spec) => `${label(spec)} `)
  return `\
${help}

${about}

Exit code 0: done; 1: refused or failed, and the message says why; 2: the command line is wrong.

Usage: compute_ctl ${name} ${words.join("")}[OPTIONS]

${options(table)}`
}

export const fsmHelp = (): string => `\
Prints the state machine of a node: its statuses and the moves between them, as a Mermaid diagram

Usage: compute_ctl fsm [OPTIONS]

${options(fsmOptions)}`

export const versionLine = (): string => `compute_ctl ${version} (build tag ${buildTag})\n`
