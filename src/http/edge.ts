/**
 * What surrounds all routes of a server: request id, access log, span, and the answers that no route gives (404, 405,
 * defects, shutdown). Every answer with a status of 400 or above has the JSON error body.
 *
 * Source: reference/http-api §3, §5.3.
 */
import { STATUS_CODES } from "node:http"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FindMyWay from "effect/http/FindMyWay"
import * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import * as HttpApi from "effect/http-api/HttpApi"
import type * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as Option from "effect/Option"
import * as E from "./api/Errors.ts"
import { newRequestId } from "./requestId.ts"

/** `/STATUS`, `/status/` and `//status` are other paths than `/status`. */
export const routerConfig = {
  caseSensitive: true,
  ignoreTrailingSlash: false,
  ignoreDuplicateSlashes: false,
  maxParamLength: 4096
}

/** Answer of an error class; what the server says where no endpoint declares an error. */
export const answer = (
  error: { readonly status: number },
  message: string,
  headers: Readonly<Record<string, string>> = {}
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.jsonUnsafe({ error: message }, { status: error.status, headers })

/** Looks up the methods that the path of a URL has; empty when the API has no such path. */
export type MethodsOf = (url: string) => ReadonlyArray<string>

/** The look-up is built on the first request that misses. */
export const methodsOf = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>
): MethodsOf => {
  let built: { readonly router: FindMyWay.Router<true>; readonly known: ReadonlySet<string> } | undefined
  const build = () => {
    const router = FindMyWay.make<true>(routerConfig)
    const known = new Set<string>()
    HttpApi.reflect(api, {
      onGroup: () => {},
      onEndpoint: ({ endpoint }) => {
        known.add(endpoint.method)
        router.on(endpoint.method, `/${endpoint.path.slice(1)}`, true)
      }
    })
    return { router, known }
  }
  return (url) => {
    built ??= build()
    const { router, known } = built
    // A wildcard matches the empty rest too, which is no path of ours.
    const has = (method: string) => {
      const found = router.find(method, url)
      return found !== undefined && found.params["*"] !== ""
    }
    return [...known].filter(has).flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]))
  }
}

const pathOf = (url: string): string => url.split("?", 1)[0] ?? ""

/** The router takes `;` and `#` for the begin of a query; to us they are characters like others. */
const withPlainPath = (request: HttpServerRequest.HttpServerRequest): HttpServerRequest.HttpServerRequest => {
  const path = pathOf(request.url)
  if (!/[;#]/u.test(path)) return request
  const plain = path.replaceAll(";", "%3B").replaceAll("#", "%23")
  return request.modify({ url: plain + request.url.slice(path.length) })
}

const isUtf8 = (path: string): boolean => {
  try {
    decodeURIComponent(path)
    return true
  } catch {
    return false
  }
}

/** No route took the request: why not? */
const unrouted = (request: HttpServerRequest.HttpServerRequest, methods: MethodsOf) => {
  const path = pathOf(withPlainPath(request).url)
  const readable = isUtf8(path)
  const allowed = methods(readable ? path : path.replaceAll(/%[0-9a-f]{0,2}/giu, "_"))
  if (allowed.length === 0) return answer(E.NotFound, "not found")
  if (!allowed.includes(request.method)) {
    return answer(E.MethodNotAllowed, "method not allowed", { allow: allowed.join(",") })
  }
  return readable
    ? answer(E.NotFound, "not found")
    : answer(E.BadRequest, "invalid url: the path is not valid utf-8 after percent-decoding")
}

/** What a handler answered in place of a success. */
const logFailure = ({ body, status }: HttpServerResponse.HttpServerResponse): Effect.Effect<void> => {
  if (status < 400 || body._tag !== "Uint8Array" || body.text === undefined) return Effect.void
  const answered: unknown = JSON.parse(body.text)
  return typeof answered === "object" && answered !== null && "error" in answered
    ? Effect.logError(answered.error)
    : Effect.void
}

const recover =
  (request: HttpServerRequest.HttpServerRequest, methods: MethodsOf) =>
  (cause: Cause.Cause<unknown>): Effect.Effect<HttpServerResponse.HttpServerResponse> => {
    if (Cause.hasInterruptsOnly(cause)) {
      return Context.getOrUndefined(Cause.annotations(cause), HttpServerError.ClientAbort) === true
        ? Effect.as(
            Effect.logInfo("client left before the answer"),
            HttpServerResponse.empty({ status: clientClosedRequest })
          )
        : Effect.succeed(answer(E.Unavailable, "shutting down", { connection: "close" }))
    }
    const error = Cause.squash(cause)
    return HttpServerError.isHttpServerError(error) && error.reason._tag === "RouteNotFound"
      ? Effect.succeed(unrouted(request, methods))
      : Effect.as(Effect.logError("handler died", cause), answer(E.InternalError, "internal error"))
  }

/** Never sent: nobody is there to read it. Only the access log shows it. */
const clientClosedRequest = 499

const spanAttributes = (request: HttpServerRequest.HttpServerRequest): Record<string, unknown> => {
  const query = request.url.indexOf("?")
  return {
    "http.request.method": request.method,
    "network.protocol.name": "http",
    "otel.kind": "server",
    "url.path": pathOf(request.url),
    ...(query === -1 ? {} : { "url.query": request.url.slice(query + 1) }),
    "url.scheme": "http"
  }
}

const withoutBody = (response: HttpServerResponse.HttpServerResponse): HttpServerResponse.HttpServerResponse =>
  response.body._tag === "Empty" ? HttpServerResponse.setHeader(response, "content-length", "0") : response

type Routes<Err, R> = Effect.Effect<HttpServerResponse.HttpServerResponse, Err, R>

/** Asks the routes, between the two lines of the access log. A failure is a response too: it marks the span. */
const logged = Effect.fnUntraced(function* <Err, R>(
  request: HttpServerRequest.HttpServerRequest,
  routes: Routes<Err, R>,
  methods: MethodsOf
) {
  const start = yield* Clock.currentTimeMillis
  yield* Effect.logInfo(`${request.method} ${request.url}`)
  const plain = withPlainPath(request)
  const response = yield* Effect.catchCause(
    plain === request ? routes : Effect.provideService(routes, HttpServerRequest.HttpServerRequest, plain),
    recover(request, methods)
  )
  const latency = (yield* Clock.currentTimeMillis) - start
  yield* Effect.annotateLogs(Effect.logInfo(""), { code: response.status, latency })
  yield* Effect.annotateCurrentSpan("http.response.status_code", response.status)
  if (response.status < 500) return response
  yield* Effect.annotateLogs(Effect.logError("response failed"), {
    classification: `Status code: ${response.status} ${STATUS_CODES[response.status] ?? ""}`,
    latency: `${latency} ms`
  })
  return yield* Effect.fail(response)
})

/**
 * Wraps the routes of a server. Its own span replaces that of the library, whose attributes are other ones.
 *
 * Nothing here makes a generator function for a request: V8 would keep it, with all that it refers to, until the next
 * full collection.
 */
export const edge =
  (methods: MethodsOf) =>
  <Err, R>(
    routes: Routes<Err, R>
  ): Effect.Effect<HttpServerResponse.HttpServerResponse, never, R | HttpServerRequest.HttpServerRequest> => {
    const reported = Effect.tap(routes, logFailure)
    return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
      const id = request.headers["x-request-id"] ?? newRequestId()
      const identified = (response: HttpServerResponse.HttpServerResponse) =>
        HttpServerResponse.setHeader(withoutBody(response), "x-request-id", id)
      return logged(request, reported, methods).pipe(
        Effect.annotateLogs("request_id", id),
        Effect.withSpan(
          "HTTP",
          {
            kind: "server",
            parent: Option.getOrUndefined(HttpTraceContext.fromHeaders(request.headers)),
            attributes: spanAttributes(request)
          },
          { captureStackTrace: false }
        ),
        Effect.match({ onFailure: identified, onSuccess: identified })
      )
    })
  }
