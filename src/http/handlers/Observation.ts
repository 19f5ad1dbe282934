/** What scrapers and probes ask, without a token. Source: reference/http-api §7.11, §7.12; the probes are ours. */
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import type { ComputeState } from "../../domain/ComputeState.ts"
import * as ComputeStatus from "../../domain/ComputeStatus.ts"
import { ComputeNode } from "../../layers/ComputeNode.ts"
import { Loops } from "../../layers/Loops.ts"
import { Metrics } from "../../layers/Metrics.ts"
import { Params } from "../../layers/Params.ts"
import { Sql } from "../../layers/Sql.ts"
import { openSession } from "../../programs/inquiries/probe.ts"
import * as E from "../api/Errors.ts"
import { ExternalApi } from "../api/ExternalApi.ts"

export const layerMetrics = HttpApiBuilder.group(ExternalApi, "metrics", (handlers) =>
  Effect.gen(function* () {
    const metrics = yield* Metrics
    const { pgdata } = yield* Params

    return handlers
      .handle("prometheus", () => metrics.render)
      .handle("autoscaling", () =>
        Effect.gen(function* () {
          const module = yield* Effect.promise(() => import("../../programs/inquiries/autoscalingMetrics.ts"))
          const { body, contentType, status } = yield* module.autoscalingMetrics(pgdata)
          return HttpServerResponse.stream(body, { status, ...(contentType === undefined ? {} : { contentType }) })
        }).pipe(Effect.mapError(({ message }) => new E.InternalError({ message })))
      )
  })
)

/** Nobody needs a token to ask: however many do, Postgres is looked at once in this time. */
const probeInterval = "1 second"

/** Users are served in these, also while another spec is being applied. */
const serving: ReadonlySet<ComputeStatus.ComputeStatus> = new Set([
  "running",
  "configuration_pending",
  "configuration",
  "refresh_configuration_pending",
  "refresh_configuration"
])

/** What the state alone says against being ready. Details are for those who have a token. */
const obstacle = ({ error, spec, status }: ComputeState): string | undefined => {
  if (!serving.has(status) || spec === undefined) return `compute status is ${ComputeStatus.display(status)}`
  return status === "running" && error !== undefined ? "Postgres has ended" : undefined
}

const notReady = (why: string) => new E.Unavailable({ message: `not ready: ${why}` })

export const layerHealth = HttpApiBuilder.group(ExternalApi, "health", (handlers) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const loops = yield* Loops
    const probe = yield* Effect.cachedWithTTL(Effect.provideService(openSession, Sql, yield* Sql), probeInterval)

    return handlers
      .handle("healthz", () =>
        Effect.gen(function* () {
          const report = yield* loops.report
          const problems = report.flatMap(({ name, problem }) =>
            problem === undefined ? [] : [`loop ${name} ${problem}`]
          )
          if (problems.length > 0) return yield* new E.Unavailable({ message: problems.join("; ") })
          return { loops: report.map(({ millis, name, work }) => ({ name, work: work ?? null, for_ms: millis })) }
        })
      )
      .handle("readyz", () =>
        Effect.gen(function* () {
          const state = yield* node.state
          const against = obstacle(state)
          if (against !== undefined) return yield* notReady(against)
          yield* Effect.mapError(probe, ({ message }) => notReady(message))
          return { status: state.status }
        })
      )
  })
)
