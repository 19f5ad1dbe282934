/**
 * Takes a command line apart by a table of options, in the way of clap 4.
 *
 * `--name=value`, `--name value`, `-nvalue`, `-n=value`, `-n value`. A value that begins with `-` must be attached. No
 * abbreviations, no repetition; a positional argument only where the table has one.
 */
import * as Result from "effect/Result"
import { nearest } from "./nearest.ts"
import { label, type OptionSpec, type OptionTable } from "./OptionSpec.ts"
import { quote, UsageError } from "./UsageError.ts"

/** What was given: option name to text; an option without a value has the text "true". */
export type Given<Name extends string> = ReadonlyMap<Name, string>

const refuse = (message: string) => Result.fail(new UsageError({ message }))

/** Name and attached value of `--name[=value]` or `-n[[=]value]`. */
const split = (argument: string): { readonly flag: string; readonly attached: string | undefined } => {
  if (argument.startsWith("--")) {
    const at = argument.indexOf("=")
    return at < 0
      ? { flag: argument, attached: undefined }
      : { flag: argument.slice(0, at), attached: argument.slice(at + 1) }
  }
  const [letter = ""] = argument.slice(1)
  const rest = argument.slice(1 + letter.length)
  return { flag: `-${letter}`, attached: rest === "" ? undefined : rest.startsWith("=") ? rest.slice(1) : rest }
}

const unknown = (flag: string, table: OptionTable) => {
  const names = table.filter((spec) => spec.hidden !== true && spec.positional !== true).map((spec) => `--${spec.name}`)
  const guess = flag.startsWith("--") ? nearest(flag, names) : undefined
  return refuse(`unexpected argument ${quote(flag)} found${guess === undefined ? "" : `, did you mean '${guess}'?`}`)
}

/** Reads the arguments in their order; ends at the first error, or at an option that `ends`. */
export const lex = <Name extends string>(
  table: OptionTable<Name>,
  argv: ReadonlyArray<string>
): Result.Result<Given<Name>, UsageError> => {
  const byFlag = new Map<string, OptionSpec<Name>>()
  const positional = table.find((spec) => spec.positional === true)
  for (const spec of table) {
    if (spec === positional) continue
    byFlag.set(`--${spec.name}`, spec)
    if (spec.short !== undefined) byFlag.set(`-${spec.short}`, spec)
  }
  const given = new Map<Name, string>()
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index] ?? ""
    if (argument === "--" && index === argv.length - 1) break
    if (!argument.startsWith("-") || argument === "-" || argument === "--") {
      if (positional !== undefined && argument !== "--" && !given.has(positional.name)) {
        given.set(positional.name, argument)
        continue
      }
      return refuse(`unexpected argument ${quote(argument === "--" ? (argv[index + 1] ?? "") : argument)} found`)
    }
    const { attached, flag } = split(argument)
    const spec = byFlag.get(flag)
    if (spec === undefined) return unknown(flag, table)
    if (given.has(spec.name)) return refuse(`the argument '${label(spec)}' cannot be used multiple times`)
    if (spec.value === undefined) {
      if (attached !== undefined && spec.ends !== true) {
        return refuse(`unexpected value ${quote(attached)} for '${label(spec)}' found: it takes none`)
      }
      given.set(spec.name, "true")
      if (spec.ends === true) break
      continue
    }
    const value = attached ?? argv[++index]
    if (value === undefined || (attached === undefined && value.length > 1 && value.startsWith("-"))) {
      return refuse(`a value is required for '${label(spec)}' but none was supplied`)
    }
    given.set(spec.name, value)
  }
  return Result.succeed(given)
}

/** What the table says about combinations: conflicts first, then what is missing, all of it in one line. */
export const checkCombination = <Name extends string>(
  table: OptionTable<Name>,
  given: Given<Name>,
  /** Text for a missing choice between several options. */
  missingChoice: string | undefined
): Result.Result<void, UsageError> => {
  for (const spec of table) {
    if (!given.has(spec.name)) continue
    const other = table.find((one) => given.has(one.name) && spec.conflicts?.includes(one.name))
    if (other !== undefined) return refuse(`the argument '${label(spec)}' cannot be used with '${label(other)}'`)
  }
  const missing = table
    .filter(({ name, required }) => {
      if (required === undefined || given.has(name)) return false
      return required === true || !given.has(required.unless)
    })
    .map(label)
  if (missingChoice !== undefined) missing.push(missingChoice)
  return missing.length === 0
    ? Result.void
    : refuse(`the following required arguments were not provided: ${missing.join(", ")}`)
}
