/** Finds the postgres program. */
import { delimiter, resolve } from "node:path"
import * as Result from "effect/Result"
import { quote, type UsageError } from "./UsageError.ts"
import type { Environment, Values } from "./values.ts"

/** What parsing looks at outside of its arguments. */
export interface FileProbe {
  /** Directory that relative paths start from. */
  readonly cwd: string
  readonly program: (path: string) => "executable" | "not executable" | "missing"
}

/**
 * Absolute path of `--pgbin`. A bare name is looked up in PATH, as the shell would; links are kept, since the tools lie
 * beside the name that was given.
 */
export const findPostgres = (
  read: Pick<Values<"pgbin">, "word" | "invalid">,
  { PATH = "" }: Environment,
  probe: FileProbe
): Result.Result<string, UsageError> =>
  Result.flatMap(read.word("pgbin"), (given) => {
    if (!given.includes("/")) {
      const found = PATH.split(delimiter)
        .map((directory) => resolve(probe.cwd, directory, given))
        .find((path) => probe.program(path) === "executable")
      return found === undefined ? read.invalid("pgbin", `no program ${quote(given)} in PATH`) : Result.succeed(found)
    }
    const path = resolve(probe.cwd, given)
    switch (probe.program(path)) {
      case "executable":
        return Result.succeed(path)
      case "not executable":
        return read.invalid("pgbin", `${quote(given)} is not an executable file`)
      case "missing":
        return read.invalid("pgbin", `${quote(given)} does not exist`)
    }
  })
