/**
 * Where the spec comes from: a control plane, a config file, or a bare spec file.
 *
 * `fetch` asks once (a refresh has its own schedule), `boot` retries what can heal inside one deadline. Every request
 * counts in `compute_ctl_cplane_requests_total`.
 *
 * Source: reference/startup §7.1–§7.2, reference/compute-spec §2; differs: decision S2.
 */
import { readFileSync } from "node:fs"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import {
  type ComputeCtlConfig,
  decodeComputeConfig,
  decodeComputeSpec,
  decodeControlPlaneConfigResponse,
  parseJson
} from "../domain/ComputeConfig.ts"
import type { SpecSource } from "../domain/ComputeParams.ts"
import type { ComputeSpec } from "../domain/ComputeSpec.ts"
import { describeLine } from "../domain/describe.ts"
import { firstIssue } from "../domain/schemaIssue.ts"
import { errorCode } from "./DataDirectory.ts"
import { Metrics } from "./Metrics.ts"
import { Params } from "./Params.ts"
import * as schedules from "./schedules.ts"

/** The source could not answer now; asking again may help. */
export class ConfigUnavailable extends Data.TaggedError("ConfigUnavailable")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/** The source answered, and what it said will not change by asking again. */
export class ConfigRefused extends Data.TaggedError("ConfigRefused")<{
  readonly message: string
  readonly cause?: unknown
}> {}

export interface Config {
  /** Undefined: the compute starts empty and waits for `/configure`. */
  readonly spec: ComputeSpec | undefined
  readonly computeCtlConfig: ComputeCtlConfig
  /** The control plane says `empty` and sends no spec (decision C14). */
  readonly detached: boolean
}

/** One request, headers and body. */
const requestTimeout = Duration.seconds(10)

export class ControlPlane extends Context.Service<
  ControlPlane,
  {
    readonly fetch: Effect.Effect<Config, ConfigUnavailable | ConfigRefused>
    readonly boot: Effect.Effect<Config, ConfigUnavailable | ConfigRefused>
  }
>()("compute/layers/ControlPlane") {
  static readonly layer = Layer.effect(
    ControlPlane,
    Effect.suspend(() => make)
  )
}

/** A document that is no JSON, or not of the right shape. The message names the field. */
const decode = <A>(
  text: string,
  decoder: (json: unknown) => Result.Result<A, Parameters<typeof firstIssue>[0]>
): Result.Result<A, string> =>
  Result.match(parseJson(text), {
    onFailure: (error) => Result.fail(error.message),
    onSuccess: (json) => Result.mapError(decoder(json), firstIssue)
  })

const fromFile = <A>(
  what: string,
  path: string,
  decoder: (json: unknown) => Result.Result<A, Parameters<typeof firstIssue>[0]>
) =>
  Effect.gen(function* () {
    const text = yield* Effect.try({
      try: () => readFileSync(path, "utf8"),
      catch: (cause) => {
        const reason = errorCode(cause) === "ENOENT" ? "no such file or directory" : describeLine(cause)
        return new ConfigUnavailable({ message: `could not open ${what} at path: ${path}: ${reason}` })
      }
    })
    const decoded = decode(text, decoder)
    return Result.isSuccess(decoded)
      ? decoded.success
      : yield* new ConfigUnavailable({ message: `could not parse ${what} ${path}: ${decoded.failure}` })
  })

const fromControlPlane = Effect.fnUntraced(function* (
  source: Extract<SpecSource, { readonly _tag: "ControlPlane" }>,
  computeId: string,
  environment: Readonly<Record<string, string | undefined>>,
  count: (httpStatus: string) => Effect.Effect<void>
) {
  const url = `${source.uri}/compute/api/v2/computes/${computeId}/spec`
  yield* Effect.logInfo(`getting config from control plane: ${url}`)
  // Loaded here, because most starts read a file.
  const { getText } = yield* Effect.promise(() => import("./httpGet.ts"))
  const answer = yield* getText({
    url,
    headers: { authorization: `Bearer ${Redacted.value(source.token)}`, accept: "*/*" },
    timeout: requestTimeout,
    environment
  }).pipe(
    Effect.tapError(() => count("unknown")),
    Effect.mapError((cause) => new ConfigUnavailable({ message: "could not perform request to control plane", cause }))
  )
  yield* count(`${answer.status} ${answer.reason}`)
  if (answer.status === 503)
    return yield* new ConfigUnavailable({ message: "control plane is temporarily unavailable" })
  if (answer.status === 429 || answer.status >= 500) {
    return yield* new ConfigUnavailable({ message: `control plane request failed with ${answer.status}` })
  }
  if (answer.status !== 200) {
    return yield* new ConfigRefused({
      message: `unexpected control plane response status code: ${answer.status} ${answer.reason}`
    })
  }
  const decoded = decode(answer.text, decodeControlPlaneConfigResponse)
  if (Result.isFailure(decoded)) {
    return yield* new ConfigUnavailable({
      message: `could not deserialize control plane response: ${decoded.failure}`
    })
  }
  const { spec, status, compute_ctl_config } = decoded.success
  if (status === "attached" && (spec === undefined || spec === null)) {
    return yield* new ConfigRefused({ message: "compute is attached, but spec is empty" })
  }
  return {
    spec: spec ?? undefined,
    computeCtlConfig: compute_ctl_config,
    detached: spec === undefined || spec === null
  }
})

const make = Effect.gen(function* () {
  const { computeId, environment, source } = yield* Params
  const metrics = yield* Metrics

  const ask: Effect.Effect<Config, ConfigUnavailable | ConfigRefused> = Effect.suspend(() => {
    switch (source._tag) {
      case "ConfigFile":
        return Effect.map(fromFile("config file", source.path, decodeComputeConfig), (config) => ({
          spec: config.spec ?? undefined,
          computeCtlConfig: config.compute_ctl_config,
          detached: false
        }))
      case "SpecFile":
        return Effect.map(fromFile("spec file", source.path, decodeComputeSpec), (spec) => ({
          spec,
          computeCtlConfig: { jwks: { keys: [] } },
          detached: false
        }))
      case "ControlPlane":
        return fromControlPlane(source, computeId ?? "", environment, (status) => metrics.cplaneRequest(status))
    }
  })

  const boot = Effect.suspend(() => {
    if (source._tag !== "ControlPlane") return ask
    let attempt = 0
    return ask.pipe(
      Effect.tapError((error) =>
        Effect.logError(`attempt ${++attempt} to get config failed with: ${describeLine(error)}`)
      ),
      Effect.retry({ schedule: schedules.boot, while: (error) => error._tag === "ConfigUnavailable" }),
      Effect.timeoutOrElse({
        duration: schedules.bootTimeout,
        orElse: () =>
          Effect.fail(
            new ConfigUnavailable({ message: "Exhausted all attempts to retrieve the config from the control plane" })
          )
      })
    )
  })

  return ControlPlane.of({ fetch: ask, boot })
})
