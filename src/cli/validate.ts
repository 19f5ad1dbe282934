/**
 * `compute_ctl validate`: whether a document is good, without a server.
 *
 * Exit code 0: it is; 1: it is not, and the message names the field.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { ComputeSpec } from "../domain/ComputeSpec.ts"
import type { ValidateParams } from "../domain/catalog/Commands.ts"
import { fromSpec } from "../domain/catalog/Desired.ts"
import { describeLine } from "../domain/describe.ts"
import * as ParsedSpec from "../domain/ParsedSpec.ts"
import * as PostgresConf from "../domain/PostgresConf.ts"
import { readConfig, UnusableConfig } from "../programs/catalog/readConfig.ts"

/** Setting names stand in `cluster.settings`, everything else is a member. */
const pathOf = (field: string): string =>
  field.startsWith("neon.") ? `spec.cluster.settings[${JSON.stringify(field)}]` : `spec.${field}`

const unusable = (field: string, problem: string) =>
  new UnusableConfig({ field, message: problem.startsWith(field) ? problem : `${field}: ${problem}` })

/** Any values do: what they are makes no difference to whether the document is good. */
const anyNode = { privilegedRole: "neon_superuser", lakebase: false }

const check = (spec: ComputeSpec): Result.Result<void, UnusableConfig> =>
  Result.gen(function* () {
    const { timelineId } = yield* Result.mapError(ParsedSpec.parse(spec), (error) =>
      unusable(pathOf(error.field), describeLine(error))
    )
    yield* Result.mapError(fromSpec(spec, { ...anyNode, timelineId }), ({ field, problem }) =>
      unusable(pathOf(field), problem)
    )
    yield* Result.mapError(
      PostgresConf.render({
        spec,
        privilegedRoleName: anyNode.privilegedRole,
        internalHttpPort: 3081,
        tls: false,
        overcommitIsStrict: false,
        platform: "linux"
      }),
      ({ message }) => unusable("spec.pageserver_connection_info", message)
    )
  })

const validate = ({ config }: ValidateParams) =>
  Effect.gen(function* () {
    const { spec } = yield* readConfig(config)
    if (spec === undefined || spec === null) return "good, but without a spec: a compute would wait for one"
    yield* Effect.fromResult(check(spec))
    return "good"
  })

/** Runs the command; the value is the exit code. */
export const main = (params: ValidateParams): Effect.Effect<number> =>
  validate(params).pipe(
    Effect.match({
      onSuccess: (text) => {
        process.stdout.write(params.json ? `${JSON.stringify({ valid: true })}\n` : `${params.config}: ${text}\n`)
        return 0
      },
      onFailure: ({ field, message }) => {
        if (params.json) process.stdout.write(`${JSON.stringify({ valid: false, field: field ?? null, message })}\n`)
        else process.stderr.write(`compute_ctl validate: ${params.config}: ${message}\n`)
        return 1
      }
    })
  )
