/** Options of `compute_ctl local` → `LocalParams`, of `compute_ctl local move` → `LocalMoveParams`. */
import { resolve } from "node:path"
import * as Result from "effect/Result"
import { type LocalMoveParams, type LocalParams, localMajors, maxPageservers } from "../domain/LocalParams.ts"
import { checkCombination, type Given } from "./lex.ts"
import type { NamesOf } from "./OptionSpec.ts"
import { localMoveOptions, localOptions } from "./options.ts"
import { type FileProbe, findPostgres } from "./program.ts"
import type { UsageError } from "./UsageError.ts"
import { type Environment, maxU16, type Values, values } from "./values.ts"
import { buildTag } from "./version.ts"

type LocalOption = NamesOf<typeof localOptions>
type MoveOption = NamesOf<typeof localMoveOptions>

/** Relative paths start where the process does. */
const absolute =
  ({ cwd }: FileProbe) =>
  (path: string | undefined): string | undefined =>
    path === undefined ? undefined : resolve(cwd, path)

/** A number from 1 on. */
const counted = <Name extends string>(
  read: Pick<Values<Name>, "u16" | "invalid">,
  name: Name,
  most: number
): Result.Result<number, UsageError> =>
  Result.flatMap(read.u16(name), (value) =>
    value < 1 || value > most ? read.invalid(name, `${value} is not in 1..=${most}`) : Result.succeed(value)
  )

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
    return {
      dataDir: yield* Result.map(read.optional("data-dir", read.word), absolute(probe)),
      postgres: yield* postgres(read, env, probe),
      pageservers: yield* counted(read, "pageservers", maxPageservers),
      port: yield* counted(read, "port", maxU16),
      externalHttpPort: yield* counted(read, "http-port", maxU16),
      internalHttpPort: yield* counted(read, "internal-http-port", maxU16),
      runAs: yield* read.optional("run-as", read.word),
      buildTag,
      environment: env
    }
  })

export const localMoveParams = (
  given: Given<MoveOption>,
  env: Environment,
  probe: FileProbe
): Result.Result<LocalMoveParams, UsageError> =>
  Result.gen(function* () {
    const read = values(localMoveOptions, given, env)
    return {
      dataDir: yield* Result.map(read.optional("data-dir", read.word), absolute(probe)),
      to: yield* read.optional("to", (name) => counted(read, name, maxU16)),
      environment: env
    }
  })
