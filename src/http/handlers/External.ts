/** Life of the compute, and its file cache. Source: reference/http-api §7. */
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { type ComputeState, visibleSpec } from "../../domain/ComputeState.ts"
import * as Lsn from "../../domain/Lsn.ts"
import * as ParsedSpec from "../../domain/ParsedSpec.ts"
import { ComputeNode } from "../../layers/ComputeNode.ts"
import { Params } from "../../layers/Params.ts"
import { Sql } from "../../layers/Sql.ts"
import { ping } from "../../programs/inquiries/probe.ts"
import * as E from "../api/Errors.ts"
import { ExternalApi } from "../api/ExternalApi.ts"
import type {
  ComputeStatusResponse,
  LfcOffloadState,
  LfcPrewarmState,
  ReconcileResponse,
  StartupTimeline
} from "../api/Schemas.ts"
import { requireInQuery } from "../requests.ts"
import { notImplemented, refusedBy, requireSpec } from "./gate.ts"

/** Milliseconds since the epoch as RFC 3339 in UTC. */
const rfc3339 = (millis: number): string => new Date(millis).toISOString()

const statusResponse = (state: ComputeState): ComputeStatusResponse => {
  const spec = visibleSpec(state)
  return {
    start_time: rfc3339(state.startTime),
    tenant: spec?.tenantId ?? null,
    timeline: spec?.timelineId ?? null,
    status: state.status,
    last_active: state.lastActive === undefined ? null : rfc3339(state.lastActive).replace("Z", "+00:00"),
    error: state.error ?? null
  }
}

const timelineResponse = ({ timeline }: ComputeState): StartupTimeline => ({
  stages: timeline.map(({ duration, error, stage, started }) => ({
    stage,
    started_at: rfc3339(started),
    duration_ms: duration ?? null,
    error: error ?? null
  }))
})

const reconcileResponse = ({ lastApply, pendingRestart }: ComputeState): ReconcileResponse => ({
  last_apply:
    lastApply === undefined
      ? null
      : {
          mode: lastApply.mode,
          started_at: rfc3339(lastApply.startedAt),
          duration_ms: lastApply.millis,
          counts: lastApply.counts,
          failures: lastApply.failures.map(({ message, sqlstate, ...failure }) => ({
            ...failure,
            sqlstate: sqlstate ?? null,
            message: message ?? null
          })),
          warnings: lastApply.warnings,
          error: lastApply.error ?? null
        },
  pending_restart: pendingRestart
})

const resolve = (spec: ParsedSpec.ParsedSpec["spec"]) =>
  Effect.mapError(Effect.fromResult(ParsedSpec.parse(spec)), ({ message }) => new E.BadRequest({ message }))

const terminated = (lsn: Lsn.Lsn | null) =>
  HttpServerResponse.jsonUnsafe({ lsn: lsn === null ? null : Lsn.format(lsn) }, { status: 201 })

export const layerControl = HttpApiBuilder.group(ExternalApi, "control", (handlers) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const params = yield* Params
    const sql = yield* Sql
    const status = Effect.map(node.state, statusResponse)

    return handlers
      .handle("status", () => status)
      .handle("startupMetrics", () => Effect.map(node.state, ({ metrics }) => metrics))
      .handle("timeline", () => Effect.map(node.state, timelineResponse))
      .handle("reconcile", () => Effect.map(node.state, reconcileResponse))
      .handle("configure", ({ payload }) =>
        Effect.gen(function* () {
          const spec = yield* resolve(payload.spec)
          const span = Option.getOrUndefined(yield* Effect.option(Effect.currentSpan))
          const outcome = yield* Effect.mapError(node.submitSpec(spec, span), (error) =>
            error._tag === "OtherCompute" ? new E.BadRequest({ message: error.message }) : refusedBy(error)
          )
          yield* Effect.mapError(
            outcome,
            ({ message }) =>
              new E.InternalError({ message: `compute configuration failed: ${JSON.stringify(message)}` })
          )
          return yield* status
        })
      )
      .handle("terminate", ({ query, request }) =>
        Effect.gen(function* () {
          yield* requireInQuery(request, "mode", query.mode)
          const before = yield* node.state
          const asked = yield* Effect.result(node.terminate(query.mode ?? "fast"))
          if (Result.isFailure(asked)) {
            return asked.failure.from === "terminated"
              ? terminated((yield* node.state).terminateLsn)
              : yield* refusedBy(asked.failure)
          }
          if (before.status === "empty") {
            return params.lakebaseMode ? HttpServerResponse.empty({ status: 200 }) : { lsn: null }
          }
          return yield* Effect.mapError(asked.success, ({ message }) => new E.InternalError({ message }))
        })
      )
      .handle("promote", ({ payload }) =>
        Effect.gen(function* () {
          yield* resolve(payload.spec)
          const { spec } = yield* requireSpec(node)
          if (spec.mode._tag !== "Replica") {
            const error = `compute mode "${spec.mode._tag.toLowerCase()}" is not replica`
            return yield* Effect.fail({ status: "failed", error } as const)
          }
          return yield* notImplemented("promotion")
        })
      )
      .handle("liveness", () =>
        ping.pipe(
          Effect.as("ok" as const),
          Effect.provideService(Sql, sql),
          Effect.mapError(({ message }) => new E.Unavailable({ message }))
        )
      )
  })
)

export const layerLfc = HttpApiBuilder.group(ExternalApi, "lfc", (handlers) =>
  Effect.gen(function* () {
    const spec = requireSpec(yield* ComputeNode)

    return handlers
      .handle("prewarmState", () => Effect.succeed<LfcPrewarmState>({ status: "not_prewarmed" }))
      .handle("prewarm", ({ query, request }) =>
        requireInQuery(request, "from_endpoint", query.from_endpoint).pipe(
          Effect.andThen(spec),
          Effect.andThen(notImplemented("prewarming"))
        )
      )
      .handle("cancelPrewarm", () => Effect.void) // nothing is ever under way
      .handle("offloadState", () => Effect.succeed<LfcOffloadState>({ status: "not_offloaded" }))
      .handle("offload", () => Effect.andThen(spec, notImplemented("offloading")))
  })
)
