/** Options of `compute_ctl local` → `LocalParams`. */
import { resolve } from "node:path"
import * as Result from "effect/Result"
import { type LocalParams, localMajors } from "../domain/LocalParams.ts"
import { checkCombination, type Given } from "./lex.ts"
import type { NamesOf } from "./OptionSpec.ts"
import { localOptions } from "./options.ts"
import { type FileProbe, findPostgres } from "./program.ts"
import type { UsageError } from "./UsageError.ts"
import { type Environment, type Values, values } from "./values.ts"
import { buildTag } from "./version.ts"

type LocalOption = NamesOf<typeof localOptions>

/** A version on the command line wins over a program in the environment. */
const postgres = (
  read: Values<LocalOption>,
  env: Environment,
  probe: FileProbe
): Result.Result<LocalParams["postgres"], UsageError> => {
  if (read.has("pg-version")) {
    return Result.flatMap(read.u16("pg-version"), (asked): ReturnType<typeof postgres> => {
      const major = localMajors.find((one) => one === asked)
      return major === undefined
        ? read.invalid("pg-version", `${asked} is not one of ${localMajors.join(", ")}`)
        : Result.succeed({ _tag: "Version", major })
    })
  }
  return read.has("pgbin")
    ? Result.map(findPostgres(read, env, probe), (pgbin) => ({ _tag: "Binary", pgbin }))
    : Result.succeed({ _tag: "Bundled" })
}

export const localParams = (
  given: Given<LocalOption>,
  env: Environment,
  probe: FileProbe
): Result.Result<LocalParams, UsageError> =>
  Result.gen(function* () {
    yield* checkCombination(localOptions, given, undefined)
    const read = values(localOptions, given, env)
    const dataDir = yield* read.optional("data-dir", read.word)
    return {
      dataDir: dataDir === undefined ? undefined : resolve(probe.cwd, dataDir),
      postgres: yield* postgres(read, env, probe),
      port: yield* read.u16("port"),
      externalHttpPort: yield* read.u16("http-port"),
      internalHttpPort: yield* read.u16("internal-http-port"),
      runAs: yield* read.optional("run-as", read.word),
      buildTag,
      environment: env
    }
  })
