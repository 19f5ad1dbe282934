/** What the routes of the internal server do. Source: reference/http-api §8. */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as ComputeStatus from "../../domain/ComputeStatus.ts"
import { ComputeNode } from "../../layers/ComputeNode.ts"
import { Metrics } from "../../layers/Metrics.ts"
import { Params } from "../../layers/Params.ts"
import * as E from "../api/Errors.ts"
import { InternalApi } from "../api/InternalApi.ts"
import { notImplemented, requireRunning } from "./gate.ts"

export const layerExtensions = HttpApiBuilder.group(InternalApi, "extensions", (handlers) =>
  Effect.gen(function* () {
    const running = requireRunning(yield* ComputeNode)
    const { remoteExtBaseUrl } = yield* Params

    return handlers
      .handle("download", () =>
        remoteExtBaseUrl === undefined
          ? Effect.fail(new E.PreconditionFailed({ message: "remote storage is not configured" }))
          : notImplemented("the download of extensions")
      )
      .handle("install", () => Effect.andThen(running, notImplemented("the installation of extensions")))
  })
)

export const layerGrants = HttpApiBuilder.group(InternalApi, "grants", (handlers) =>
  Effect.gen(function* () {
    const running = requireRunning(yield* ComputeNode)

    return handlers.handle("grant", () => Effect.andThen(running, notImplemented("granting")))
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
