/**
 * Command line and environment → what to do.
 *
 * Pure: reads nothing but its arguments, never throws. Source: reference/startup §2–§3, decisions P3.
 */
import * as Result from "effect/Result"
import type { Boot } from "../domain/Boot.ts"
import type { ComputeParams } from "../domain/ComputeParams.ts"
import type { PlanParams, ValidateParams } from "../domain/catalog/Commands.ts"
import type { LocalMoveParams, LocalParams } from "../domain/LocalParams.ts"
import { planParams, validateParams } from "./catalogParams.ts"
import {
  fsmHelp,
  localHelp,
  localMoveHelp,
  nodeHelp,
  operatorHelp,
  planHelp,
  validateHelp,
  versionLine
} from "./help.ts"
import { lex } from "./lex.ts"
import { localMoveParams, localParams } from "./localParams.ts"
import { nearest } from "./nearest.ts"
import { nodeParams } from "./nodeParams.ts"
import { type OperatorCommand, type OperatorName, operatorCommands } from "./operator/options.ts"
import { type OperatorParams, operatorParams } from "./operator/params.ts"
import {
  commands,
  fsmOptions,
  localMoveOptions,
  localOptions,
  nodeOptions,
  planOptions,
  validateOptions
} from "./options.ts"
import type { FileProbe } from "./program.ts"
import { quote, UsageError } from "./UsageError.ts"
import type { Environment } from "./values.ts"

export type Command =
  | { readonly _tag: "Node"; readonly params: ComputeParams }
  | { readonly _tag: "Local"; readonly params: LocalParams }
  | { readonly _tag: "LocalMove"; readonly params: LocalMoveParams }
  | { readonly _tag: "Plan"; readonly params: PlanParams }
  | { readonly _tag: "Validate"; readonly params: ValidateParams }
  /** A question to a running node. */
  | { readonly _tag: "Operator"; readonly params: OperatorParams }
  /** The state machine; `json`: as one document. */
  | { readonly _tag: "Fsm"; readonly json: boolean }
  /** A text for stdout, nothing more to do. */
  | { readonly _tag: "Print"; readonly text: string }

type Parsed = Result.Result<Command, UsageError>

const refuse = (message: string) => Result.fail(new UsageError({ message }))
const print = (text: string): Parsed => Result.succeed({ _tag: "Print", text })

const node = (argv: ReadonlyArray<string>, env: Environment, probe: FileProbe): Parsed =>
  Result.flatMap(lex(nodeOptions, argv), (given) => {
    if (given.has("help")) return print(nodeHelp())
    if (given.has("version")) return print(versionLine())
    return Result.map(nodeParams(given, env, probe), (params) => ({ _tag: "Node", params }))
  })

const localMove = (argv: ReadonlyArray<string>, env: Environment, probe: FileProbe): Parsed =>
  Result.flatMap(lex(localMoveOptions, argv), (given) =>
    given.has("help")
      ? print(localMoveHelp())
      : Result.map(localMoveParams(given, env, probe), (params) => ({ _tag: "LocalMove", params }))
  )

const local = (argv: ReadonlyArray<string>, env: Environment, probe: FileProbe): Parsed => {
  const [first, ...rest] = argv
  if (first === "move") return localMove(rest, env, probe)
  return Result.flatMap(lex(localOptions, argv), (given) =>
    given.has("help")
      ? print(localHelp())
      : Result.map(localParams(given, env, probe), (params) => ({ _tag: "Local", params }))
  )
}

const plan = (argv: ReadonlyArray<string>, env: Environment): Parsed =>
  Result.flatMap(lex(planOptions, argv), (given) =>
    given.has("help") ? print(planHelp()) : Result.map(planParams(given, env), (params) => ({ _tag: "Plan", params }))
  )

const validate = (argv: ReadonlyArray<string>, env: Environment): Parsed =>
  Result.flatMap(lex(validateOptions, argv), (given) =>
    given.has("help")
      ? print(validateHelp())
      : Result.map(validateParams(given, env), (params) => ({ _tag: "Validate", params }))
  )

const operator = (
  command: OperatorCommand & { readonly name: OperatorName },
  argv: ReadonlyArray<string>,
  env: Environment
): Parsed =>
  Result.map(
    operatorParams(command.name, argv, env),
    (params): Command =>
      params === undefined ? { _tag: "Print", text: operatorHelp(command) } : { _tag: "Operator", params }
  )

const operatorCommand = (word: string) => operatorCommands.find(({ name }) => name === word)

const fsm = (argv: ReadonlyArray<string>): Parsed =>
  Result.map(lex(fsmOptions, argv), (given) =>
    given.has("help") ? { _tag: "Print", text: fsmHelp() } : { _tag: "Fsm", json: given.has("json") }
  )

const help = (topics: ReadonlyArray<string>): Parsed => {
  const [topic, more] = topics
  if (more !== undefined) return refuse(`unexpected argument ${quote(more)} found`)
  switch (topic) {
    case undefined:
    case "help":
      return print(nodeHelp())
    case "local":
      return print(localHelp())
    case "plan":
      return print(planHelp())
    case "validate":
      return print(validateHelp())
    case "fsm":
      return print(fsmHelp())
    default: {
      const command = operatorCommand(topic)
      return command === undefined ? unknownCommand(topic) : print(operatorHelp(command))
    }
  }
}

const unknownCommand = (word: string): Parsed => {
  const guess = nearest(
    word,
    commands.map((command) => command.name)
  )
  return refuse(`unrecognized command ${quote(word)}${guess === undefined ? "" : `, did you mean '${guess}'?`}`)
}

/** @param argv the arguments after the program's name */
export const parse = (argv: ReadonlyArray<string>, env: Environment, probe: FileProbe): Parsed => {
  const [first, ...rest] = argv
  if (first === undefined || first.startsWith("-")) return node(argv, env, probe)
  switch (first) {
    case "local":
      return local(rest, env, probe)
    case "plan":
      return plan(rest, env)
    case "validate":
      return validate(rest, env)
    case "fsm":
      return fsm(rest)
    case "help":
      return help(rest)
    default: {
      const command = operatorCommand(first)
      return command === undefined ? unknownCommand(first) : operator(command, rest, env)
    }
  }
}

/** What of the environment concerns logs and traces. */
export const bootOf = (env: Environment): Boot => {
  const otel: Record<string, string> = {}
  for (const [name, value] of Object.entries(env)) {
    if (name.startsWith("OTEL_") && value !== undefined && value !== "") otel[name] = value
  }
  const { RUST_LOG, TRACEPARENT, TRACESTATE } = env
  return {
    rustLog: RUST_LOG || undefined,
    traceparent: TRACEPARENT || undefined,
    tracestate: TRACESTATE || undefined,
    otel
  }
}
