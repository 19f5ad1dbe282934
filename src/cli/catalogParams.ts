/** Options of `compute_ctl plan` and `compute_ctl validate` → `PlanParams`, `ValidateParams`. */
import * as Result from "effect/Result"
import type { PlanParams, ValidateParams } from "../domain/catalog/Commands.ts"
import { checkCombination, type Given } from "./lex.ts"
import type { NamesOf } from "./OptionSpec.ts"
import { planOptions, validateOptions } from "./options.ts"
import * as Server from "./server.ts"
import type { UsageError } from "./UsageError.ts"
import { type Environment, values } from "./values.ts"

export const planParams = (
  given: Given<NamesOf<typeof planOptions>>,
  env: Environment
): Result.Result<PlanParams, UsageError> =>
  Result.gen(function* () {
    yield* checkCombination(planOptions, given, undefined)
    const read = values(planOptions, given, env)
    return {
      config: yield* read.word("config"),
      postgres: (yield* Server.connstr(read)).target,
      privilegedRoleName: yield* Server.privilegedRoleName(read),
      lakebaseMode: yield* read.bool("lakebase-mode"),
      full: read.flag("full"),
      json: read.flag("json")
    }
  })

export const validateParams = (
  given: Given<NamesOf<typeof validateOptions>>,
  env: Environment
): Result.Result<ValidateParams, UsageError> =>
  Result.gen(function* () {
    yield* checkCombination(validateOptions, given, undefined)
    const read = values(validateOptions, given, env)
    return { config: yield* read.word("config"), json: read.flag("json") }
  })
