/**
 * SQL text from names and values.
 *
 * Total for every text without NUL; whatever is in a name, the server reads back that name and nothing else. Names and
 * raw values of options are trusted, as they are part of the control plane's document. Source: reference/catalog §7.
 */
import type { GenericOption } from "../ComputeSpec.ts"

/** Always in double quotes; not idempotent. */
export const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** A string literal that reads the same under both values of `standard_conforming_strings`. */
export const literal = (text: string): string => {
  const doubled = text.replaceAll("'", "''").replaceAll("\\", "\\\\")
  return `${doubled.includes("\\") ? "E" : ""}'${doubled}'`
}

/** One `x` more than the longest run of `x` in the text: the delimiter cannot occur inside, nor begin early. */
const tag = (text: string): string =>
  "x".repeat(1 + Math.max(0, ...(text.match(/x+/gu) ?? []).map((run) => run.length)))

/** The text between dollar delimiters. */
export const dollarQuote = (text: string): string => `$${tag(text)}$${text}$${tag(text)}$`

/** A `DO` statement around PL/pgSQL that may hold anything, dollar-quoted values too. */
export const block = (body: string): string => `DO ${dollarQuote(body)}`

const option = ({ name, value, vartype }: GenericOption): string => {
  if (value === undefined || value === null) return name
  return `${name} ${vartype === "string" ? literal(value) : value}`
}

/** Options of a role or database. */
export const optionList = (options: ReadonlyArray<GenericOption>): string => options.map(option).join(" ")
