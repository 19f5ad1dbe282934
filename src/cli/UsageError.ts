/** The command line or the environment cannot be used. Nothing was touched; the process ends with `usageExitCode`. */
import * as Data from "effect/Data"
import { oneLine } from "./printable.ts"

export class UsageError extends Data.TaggedError("UsageError")<{
  /** One line; names the option. Holds no secret. */
  readonly message: string
}> {}

export const usageExitCode = 2

const longest = 200

/** Text from outside inside a one-line message: quoted, control characters escaped, cut where it is long. */
export const quote = (text: string): string => {
  const cut = text.length > longest ? `${text.slice(0, longest)}…` : text
  return `'${oneLine(cut)}'`
}
