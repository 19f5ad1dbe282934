/** Commands that ask a running node over HTTP: what each is for, and what can be said to it. */
import { type OptionTable, optionTable } from "../OptionSpec.ts"
import { helpOption } from "../shared.ts"

const common = [
  {
    name: "url",
    value: "URL",
    default: "http://127.0.0.1:3080",
    help: "The node's HTTP server that wants tokens"
  },
  {
    name: "internal-url",
    value: "URL",
    default: "http://127.0.0.1:3081",
    help: "The node's HTTP server that wants no tokens"
  },
  {
    name: "token",
    env: "COMPUTE_CTL_TOKEN",
    value: "TOKEN",
    help: "Token to show to the former. The variable keeps it out of the list of processes"
  },
  { name: "json", help: "Print what the node answers, as JSON" },
  helpOption
] as const

/** Those of a command that has no others. */
export const plainOptions = optionTable(common)

export const statusOptions = optionTable([
  {
    name: "watch",
    short: "w",
    help: "Go on and show each change, until Ctrl-C or the end of the node; as JSON one document a line"
  },
  ...common
])

export const configureOptions = optionTable([
  {
    name: "file",
    positional: true,
    value: "FILE",
    required: true,
    help: "JSON document: a spec, or a configuration as a node takes it by --config; `-`: standard input"
  },
  ...common
])

export const terminateOptions = optionTable([
  {
    name: "mode",
    value: "fast|immediate",
    default: "fast",
    help: "How long the process answers once Postgres is down: 30 seconds, or hardly"
  },
  ...common
])

export interface OperatorCommand {
  readonly name: string
  /** One line in the list of commands. */
  readonly help: string
  /** Further lines of its own help. */
  readonly about: string
  readonly options: OptionTable
}

export const operatorCommands = [
  {
    name: "status",
    help: "Show the status of a running node",
    about: "What the node answers is shown, whatever it is: exit code 0.",
    options: statusOptions
  },
  {
    name: "timeline",
    help: "Show the stages of a node's start, also while they run",
    about: "Bars are to scale. A start that was tried again adds its stages.",
    options: plainOptions
  },
  {
    name: "reconcile",
    help: "Show what the last work on roles, databases and settings did, and what it could not do",
    about: "Settings that wait for a restart of Postgres are listed too.",
    options: plainOptions
  },
  {
    name: "configure",
    help: "Give a node a spec, and wait until it is applied",
    about: "The document goes to the node as it is; the node says what is wrong with it.",
    options: configureOptions
  },
  {
    name: "refresh",
    help: "Tell a node that its configuration may be stale",
    about: "It fetches it again and applies what has changed; `status --watch` shows how that goes.",
    options: plainOptions
  },
  {
    name: "terminate",
    help: "Stop Postgres and end the node, and wait until Postgres is down",
    about: "Prints the position after the last sync of the safekeepers.",
    options: terminateOptions
  },
  {
    name: "metrics",
    help: "Show the metrics of a node",
    about: "No token is needed. Histograms are shown by the number of their samples and the mean.",
    options: plainOptions
  }
] as const satisfies ReadonlyArray<OperatorCommand>

export type OperatorName = (typeof operatorCommands)[number]["name"]
