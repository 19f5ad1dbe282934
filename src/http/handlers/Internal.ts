/** What the routes of the internal server do. Source: reference/http-api §8. */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as ComputeStatus from "../../domain/ComputeStatus.ts"
import * as RemoteExtensions from "../../domain/RemoteExtensions.ts"
import { ComputeNode } from "../../layers/ComputeNode.ts"
import { Failpoints } from "../../layers/Failpoints.ts"
import { Metrics } from "../../layers/Metrics.ts"
import { Params } from "../../layers/Params.ts"
import { Sql } from "../../layers/Sql.ts"
import * as E from "../api/Errors.ts"
import { InternalApi } from "../api/InternalApi.ts"
import { goingOn, notImplemented, refusedBySql, requireRunning, requireSpec } from "./gate.ts"

/** Why there is nothing to download. */
const unknownFile = (error: RemoteExtensions.NoInformation | RemoteExtensions.NotListed) =>
  error._tag === "NotListed" ? new E.NotFound({ message: error.message }) : new E.Conflict({ message: error.message })

export const layerExtensions = HttpApiBuilder.group(InternalApi, "extensions", (handlers) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const running = requireRunning(node)
    const { remoteExtBaseUrl } = yield* Params
    const sql = yield* Sql
    const finishing = goingOn(yield* Effect.scope)

    return handlers
      .handle("download", ({ params, query }) =>
        Effect.gen(function* () {
          if (remoteExtBaseUrl === undefined) {
            return yield* new E.PreconditionFailed({ message: "remote storage is not configured" })
          }
          const { spec } = yield* requireSpec(node)
          const found = RemoteExtensions.find(spec.remote_extensions, params["*"], query.is_library ?? false)
          yield* Effect.mapError(Effect.fromResult(found), unknownFile)
          return yield* notImplemented("the download of extensions")
        })
      )
      .handle("install", ({ payload }) =>
        Effect.gen(function* () {
          yield* running
          const { installExtension } = yield* Effect.promise(
            () => import("../../programs/inquiries/installExtension.ts")
          )
          const version = yield* finishing(Effect.provideService(installExtension(payload), Sql, sql)).pipe(
            Effect.mapError(refusedBySql("failed to install extension: "))
          )
          return { extension: payload.extension, version }
        })
      )
  })
)

export const layerGrants = HttpApiBuilder.group(InternalApi, "grants", (handlers) =>
  Effect.gen(function* () {
    const running = requireRunning(yield* ComputeNode)
    const sql = yield* Sql
    const finishing = goingOn(yield* Effect.scope)

    return handlers.handle("grant", ({ payload }) =>
      Effect.gen(function* () {
        yield* running
        const { grantOnSchema } = yield* Effect.promise(() => import("../../programs/inquiries/grantOnSchema.ts"))
        yield* finishing(Effect.provideService(grantOnSchema(payload), Sql, sql)).pipe(
          Effect.mapError(refusedBySql("failed to grant role privileges to the schema: "))
        )
        return payload
      })
    )
  })
)

export const layerRefresh = HttpApiBuilder.group(InternalApi, "refresh", (handlers) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const metrics = yield* Metrics

    return handlers.handle("refreshConfiguration", () =>
      Effect.gen(function* () {
        yield* metrics.pagestreamError // accepted or not
        yield* Effect.mapError(
          node.requestRefresh,
          ({ from }) =>
            new E.InternalError({
              message: `Cannot refresh compute configuration in state ${ComputeStatus.debugName(from)}`
            })
        )
      })
    )
  })
)

/** In their order, up to the first that is malformed. */
export const layerFailpoints = HttpApiBuilder.group(InternalApi, "failpoints", (handlers) =>
  Effect.gen(function* () {
    const registry = yield* Failpoints

    return handlers.handle("configureFailpoints", ({ payload }) =>
      Effect.mapError(
        Effect.forEach(payload, registry.configure, { discard: true }),
        ({ message }) => new E.BadRequest({ message: `failed to configure failpoints: ${message}` })
      )
    )
  })
)
