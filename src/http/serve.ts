/**
 * The two servers. Building `HttpServers.layer` binds both, before anything else of the node happens; leaving its scope
 * stops them, in-flight answers first.
 *
 * Routes exist before a port opens: nobody meets a server without them.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { Params } from "../layers/Params.ts"
import { makeHandler } from "./adapter.ts"
import { ExternalApi } from "./api/ExternalApi.ts"
import { InternalApi, PlainInternalApi } from "./api/InternalApi.ts"
import { layerAuthorization } from "./authorize.ts"
import { edge, type MethodsOf, methodsOf, routerConfig } from "./edge.ts"
import { layerDatabase } from "./handlers/Database.ts"
import { layerDocs } from "./handlers/Docs.ts"
import { layerControl, layerLfc } from "./handlers/External.ts"
import { layerExtensions, layerFailpoints, layerGrants, layerRefresh } from "./handlers/Internal.ts"
import { layerHealth, layerMetrics } from "./handlers/Observation.ts"
import { type Address, type Bind, formatAddress, listen, nextTurn } from "./listen.ts"
import { layerDecoding, layerJsonBody } from "./requests.ts"

/** Together with the last words of interrupted handlers an answer to `/terminate` has a second to get out. */
const drain = Duration.millis(800)

const External = HttpApiBuilder.layer(ExternalApi).pipe(
  Layer.provide([layerControl, layerLfc, layerDatabase, layerMetrics, layerHealth]),
  Layer.provide(layerDocs),
  Layer.provide([layerAuthorization, layerDecoding, layerJsonBody, HttpServer.layerServices])
)

const PlainInternal = HttpApiBuilder.layer(PlainInternalApi).pipe(
  Layer.provide([layerExtensions, layerGrants, layerRefresh]),
  Layer.provide([layerDecoding, layerJsonBody, HttpServer.layerServices])
)

const Internal = HttpApiBuilder.layer(InternalApi).pipe(
  Layer.provide([layerExtensions, layerGrants, layerRefresh, layerFailpoints]),
  Layer.provide([layerDecoding, layerJsonBody, HttpServer.layerServices])
)

type Routes = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  unknown,
  HttpServerRequest.HttpServerRequest | Scope.Scope
>

const serve = (options: {
  readonly name: string
  readonly routes: Routes
  readonly methods: MethodsOf
  readonly bind: Bind
  readonly port: number
}) =>
  Effect.gen(function* () {
    yield* Effect.logInfo(`Launching the ${options.name} server`)
    const addresses = yield* listen({
      name: options.name,
      bind: options.bind,
      port: options.port,
      drain,
      handler: (scope) =>
        makeHandler(edge(options.methods)(options.routes), scope).pipe(
          Effect.provideService(HttpMiddleware.TracerDisabledWhen, () => true) // the edge has its own span
        )
    })
    for (const address of addresses) {
      yield* Effect.logInfo(`compute_ctl ${options.name} HTTP server listening at ${formatAddress(address)}`)
    }
    return addresses
  })

/** Where the servers listen. */
export class HttpServers extends Context.Service<
  HttpServers,
  { readonly external: ReadonlyArray<Address>; readonly internal: ReadonlyArray<Address> }
>()("compute/http/HttpServers") {
  static readonly layer = Layer.effect(
    HttpServers,
    Effect.gen(function* () {
      const params = yield* Params
      const both = yield* Scope.fork(yield* Effect.scope, "parallel") // they stop side by side
      const external = yield* serve({
        name: "external",
        routes: yield* HttpRouter.toHttpEffect(External),
        methods: methodsOf(ExternalApi),
        bind: params.externalHttpHost === undefined ? { _tag: "Any" } : { _tag: "Host", host: params.externalHttpHost },
        port: params.externalHttpPort
      }).pipe(Scope.provide(both))
      yield* nextTurn
      const internal = yield* serve({
        name: "internal",
        ...(params.failpoints === undefined
          ? { routes: yield* HttpRouter.toHttpEffect(PlainInternal), methods: methodsOf(PlainInternalApi) }
          : { routes: yield* HttpRouter.toHttpEffect(Internal), methods: methodsOf(InternalApi) }),
        // Postgres resolves `localhost` to either family.
        bind:
          params.internalHttpHost === "localhost"
            ? { _tag: "Loopback" }
            : { _tag: "Host", host: params.internalHttpHost },
        port: params.internalHttpPort
      }).pipe(Scope.provide(both))
      return { external, internal }
    }).pipe(Effect.provideService(HttpRouter.RouterConfig, routerConfig))
  )
}
