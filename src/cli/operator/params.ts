/** Options of the commands that ask a running node → `OperatorParams`. */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { checkCombination, lex } from "../lex.ts"
import type { NamesOf, OptionTable } from "../OptionSpec.ts"
import type { UsageError } from "../UsageError.ts"
import { type Environment, type Values, values, webUrl } from "../values.ts"
import { configureOptions, type OperatorName, plainOptions, statusOptions, terminateOptions } from "./options.ts"

export type Action =
  | { readonly _tag: "status"; readonly watch: boolean }
  | { readonly _tag: "timeline" | "reconcile" | "refresh" | "metrics" }
  /** `-`: standard input. */
  | { readonly _tag: "configure"; readonly file: string }
  | { readonly _tag: "terminate"; readonly mode: "fast" | "immediate" }

export interface OperatorParams {
  readonly action: Action
  readonly url: string
  readonly internalUrl: string
  readonly token: Redacted.Redacted<string> | undefined
  readonly json: boolean
  /** `NO_COLOR` or a terminal that has none. */
  readonly plain: boolean
}

type CommonOption = NamesOf<typeof plainOptions>
type Checked<A> = Result.Result<A, UsageError>

const address =
  <Name extends string>(read: Pick<Values<Name>, "word" | "invalid">) =>
  (name: Name): Checked<string> =>
    Result.flatMap(read.word(name), (text) =>
      webUrl(text) === undefined ? read.invalid(name, "not an http or https URL") : Result.succeed(text)
    )

/** Reads a command line by its table; `undefined`: its help is wanted. */
const readBy =
  <Name extends string>(
    table: OptionTable<Name | CommonOption>,
    action: (read: Values<Name | CommonOption>) => Checked<Action>
  ) =>
  (argv: ReadonlyArray<string>, env: Environment): Checked<OperatorParams | undefined> =>
    Result.gen(function* () {
      const given = yield* lex(table, argv)
      if (given.has("help")) return undefined
      yield* checkCombination(table, given, undefined)
      const read = values(table, given, env)
      const token = yield* read.optional("token", read.word)
      const { NO_COLOR = "", TERM = "" } = env
      return {
        action: yield* action(read),
        url: yield* address(read)("url"),
        internalUrl: yield* address(read)("internal-url"),
        token: token === undefined ? undefined : Redacted.make(token),
        json: read.flag("json"),
        plain: NO_COLOR !== "" || TERM === "dumb"
      }
    })

const bare = (_tag: "timeline" | "reconcile" | "refresh" | "metrics") => () => Result.succeed({ _tag })

const modes = ["fast", "immediate"] as const

const readers = {
  status: readBy(statusOptions, (read) => Result.succeed({ _tag: "status", watch: read.flag("watch") })),
  timeline: readBy(plainOptions, bare("timeline")),
  reconcile: readBy(plainOptions, bare("reconcile")),
  configure: readBy(configureOptions, (read) => Result.map(read.word("file"), (file) => ({ _tag: "configure", file }))),
  refresh: readBy(plainOptions, bare("refresh")),
  terminate: readBy(terminateOptions, (read) =>
    Result.flatMap(read.word("mode"), (text): Checked<Action> => {
      const mode = modes.find((one) => one === text)
      return mode === undefined
        ? read.invalid("mode", `possible values are ${modes.join(" and ")}`)
        : Result.succeed({ _tag: "terminate", mode })
    })
  ),
  metrics: readBy(plainOptions, bare("metrics"))
} as const satisfies Record<OperatorName, unknown>

/** `undefined`: the help of the command is wanted. */
export const operatorParams = (
  name: OperatorName,
  argv: ReadonlyArray<string>,
  env: Environment
): Checked<OperatorParams | undefined> => readers[name](argv, env)
