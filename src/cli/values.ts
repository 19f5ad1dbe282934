/** Values of options: from the command line, else the variable, else the default; checked, with one-line errors. */
import * as Result from "effect/Result"
import type { Given } from "./lex.ts"
import { label, type OptionTable } from "./OptionSpec.ts"
import { quote, UsageError } from "./UsageError.ts"

/** The environment of the process. */
export type Environment = Readonly<Record<string, string | undefined>>

type Checked<A> = Result.Result<A, UsageError>

const refuse = (message: string) => Result.fail(new UsageError({ message }))

/** Largest numbers that the original's types take. */
export const maxU16 = 2 ** 16 - 1
export const maxU64 = 2n ** 64n - 1n

/** A whole number as Rust reads one: digits, perhaps after a `+`. `subject` names it in the error. */
export const wholeNumber = (subject: string, text: string, max: number | bigint): Checked<number> => {
  if (!/^\+?[0-9]{1,100}$/u.test(text)) {
    return refuse(`invalid value ${quote(text)} for '${subject}': not a whole number`)
  }
  const value = BigInt(text.replace("+", ""))
  return value > max
    ? refuse(`invalid value ${quote(text)} for '${subject}': ${value} is not in 0..=${max}`)
    : Result.succeed(Number(value))
}

/** The text as a URL of HTTP. */
export const webUrl = (text: string): URL | undefined => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  return url?.protocol === "http:" || url?.protocol === "https:" ? url : undefined
}

export interface Values<Name extends string> {
  /** There is a value, be it a default. */
  readonly has: (name: Name) => boolean
  readonly flag: (name: Name) => boolean
  /** Any text, also an empty one. */
  readonly text: (name: Name) => Checked<string>
  /** Text that is not empty. */
  readonly word: (name: Name) => Checked<string>
  readonly u16: (name: Name) => Checked<number>
  /** Exact up to 2⁵³. */
  readonly u64: (name: Name) => Checked<number>
  /** `true` or `false`. */
  readonly bool: (name: Name) => Checked<boolean>
  /** Reads what is there and leaves out what is not. */
  readonly optional: <A>(name: Name, read: (name: Name) => Checked<A>) => Checked<A | undefined>
  /** A usage error about this option. The value is not repeated: it may hold a secret. */
  readonly invalid: (name: Name, why: string) => Result.Result<never, UsageError>
}

export const values = <Name extends string>(
  table: OptionTable<Name>,
  given: Given<Name>,
  env: Environment
): Values<Name> => {
  const labels = new Map(table.map((spec) => [spec.name, label(spec)]))
  const fallbacks = new Map(
    table.map((spec) => [spec.name, (spec.env === undefined ? undefined : env[spec.env]) || spec.default])
  )
  const find = (name: Name): string | undefined => given.get(name) ?? fallbacks.get(name)
  const labelOf = (name: Name): string => labels.get(name) ?? name
  const text = (name: Name): Checked<string> => {
    const value = find(name)
    return value === undefined
      ? refuse(`a value is required for '${labelOf(name)}' but none was supplied`)
      : Result.succeed(value)
  }
  const invalid = (name: Name, why: string) => refuse(`invalid value for '${labelOf(name)}': ${why}`)
  const number = (name: Name, max: number | bigint) =>
    Result.flatMap(text(name), (value) => wholeNumber(labelOf(name), value, max))
  return {
    has: (name) => find(name) !== undefined,
    flag: (name) => given.has(name),
    text,
    word: (name) =>
      Result.flatMap(text(name), (value) =>
        value === ""
          ? invalid(name, "it is empty")
          : value.includes("\0")
            ? invalid(name, "it holds a NUL byte")
            : Result.succeed(value)
      ),
    u16: (name) => number(name, maxU16),
    u64: (name) => number(name, maxU64),
    bool: (name) =>
      Result.flatMap(text(name), (value) =>
        value === "true" || value === "false"
          ? Result.succeed(value === "true")
          : refuse(`invalid value ${quote(value)} for '${labelOf(name)}': possible values are true and false`)
      ),
    optional: (name, read) => (find(name) === undefined ? Result.succeed(undefined) : read(name)),
    invalid
  }
}
