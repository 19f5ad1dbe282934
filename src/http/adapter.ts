/**
 * Runs an HTTP effect on Node's server.
 *
 * The library's own adapter brings WebSockets, multipart, file systems and child processes along, which costs 25 ms of
 * every start. Ours has what these APIs use: requests with a body, answers as text or as a stream.
 */
import type * as Http from "node:http"
import * as NodeHttpIncomingMessage from "@effect/platform-node/NodeHttpIncomingMessage"
import { MaxBytesError } from "@effect/platform-node/NodeStream"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import { ClientAbort, HttpServerError, InternalError, RequestParseError } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { closeSoon, type Handler } from "./listen.ts"

/** What of a body nobody wanted is taken from a client, so that its connection can go on. */
const drainLimitBytes = 256 * 1024
/** How long a client may take nothing of a stream before the connection is given up. */
const stallMillis = 60_000

interface Overrides {
  readonly url?: string | undefined
  readonly headers?: Headers.Headers | undefined
  readonly remoteAddress?: Option.Option<string> | undefined
  readonly peerAddress?: Option.Option<string> | undefined
  readonly protocol?: "http" | "https" | undefined
}

/** Path and query, also of a target in absolute form. */
const targetOf = (url: string): string => {
  if (!/^https?:\/\//iu.test(url) || !URL.canParse(url)) return url
  const { pathname, search } = new URL(url)
  return pathname + search
}

class ServerRequest
  extends NodeHttpIncomingMessage.NodeHttpIncomingMessage<HttpServerError>
  implements HttpServerRequest.HttpServerRequest
{
  readonly [HttpServerRequest.TypeId] = HttpServerRequest.TypeId
  readonly url: string
  readonly response: Http.ServerResponse
  private readonly overrides: Overrides
  private decodedHeaders: Headers.Headers | undefined
  // The connection is needed for the answer.
  protected override readonly destroyOnOverflow = false
  protected override readonly closeOnDone = false

  constructor(source: Http.IncomingMessage, response: Http.ServerResponse, overrides: Overrides = {}) {
    super(
      source,
      (cause) =>
        new HttpServerError({
          reason: new RequestParseError({
            request: this,
            reason: cause instanceof MaxBytesError ? "BodyTooLarge" : "Parse",
            cause
          })
        }),
      overrides.remoteAddress
    )
    this.response = response
    this.overrides = overrides
    this.url = overrides.url ?? targetOf(source.url ?? "/")
  }

  get method(): string {
    return this.source.method ?? "GET"
  }

  get originalUrl(): string {
    return this.source.url ?? "/"
  }

  override get headers(): Headers.Headers {
    this.decodedHeaders ??= this.overrides.headers ?? Headers.fromInput(this.source.headers)
    return this.decodedHeaders
  }

  get cookies() {
    const { cookie = "" } = this.headers
    return Cookies.parseHeader(cookie)
  }

  get peerAddress(): Option.Option<string> {
    return this.overrides.peerAddress ?? this.remoteAddress
  }

  get protocol(): "http" | "https" | undefined {
    return this.overrides.protocol
  }

  modify(overrides: Overrides): ServerRequest {
    return new ServerRequest(this.source, this.response, { ...this.overrides, url: this.url, ...overrides })
  }

  get multipart() {
    return Effect.die(new Error("no endpoint takes multipart bodies"))
  }

  get multipartStream() {
    return Stream.die(new Error("no endpoint takes multipart bodies"))
  }

  get upgrade(): Effect.Effect<never, HttpServerError> {
    return Effect.fail(
      new HttpServerError({ reason: new InternalError({ request: this, description: "no upgrades" }) })
    )
  }

  upgradeWith(): Effect.Effect<never, HttpServerError> {
    return this.upgrade
  }

  toJSON(): unknown {
    return HttpIncomingMessage.inspect(this, { _id: "HttpServerRequest", method: this.method, url: this.url })
  }
}

/** Takes the rest of a body that the handler left, but not without end. */
const takeRest = (request: Http.IncomingMessage): void => {
  if (request.complete || request.destroyed) return
  let bytes = 0
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > drainLimitBytes) {
      request.pause()
      closeSoon(request.socket)
    }
  })
  request.resume()
}

const writeStream = (
  response: Http.ServerResponse,
  body: Stream.Stream<Uint8Array, unknown>,
  patience: Duration.Input
): Effect.Effect<unknown, unknown> => {
  const drained = Latch.makeUnsafe()
  response.on("drain", () => drained.openUnsafe())
  const taken = Effect.timeoutOrElse(drained.await, {
    duration: patience,
    orElse: () => Effect.fail(new Error("the client takes nothing of it"))
  })
  return Stream.runForEach(body, (chunk) => {
    if (response.write(chunk)) return Effect.void
    drained.closeUnsafe()
    return taken
  }).pipe(Effect.interruptible, Effect.andThen(Effect.sync(() => response.end())))
}

/** Head and text go out as one UTF-8 string: bytes of a header that are no ASCII would become others. */
const canBeText = (headers: Headers.Headers): boolean => !/[^\x00-\x7f]/u.test(headers["x-request-id"] ?? "")

const write = (
  response: Http.ServerResponse,
  { body, headers, status }: HttpServerResponse.HttpServerResponse,
  isHead: boolean,
  patience: Duration.Input
): Effect.Effect<unknown, unknown> => {
  response.writeHead(status, headers)
  if (isHead) return Effect.sync(() => response.end())
  switch (body._tag) {
    case "Empty":
      return Effect.sync(() => response.end())
    case "Uint8Array":
      return Effect.sync(() => response.end(canBeText(headers) ? (body.text ?? body.body) : body.body))
    case "Stream":
      return writeStream(response, body.stream, patience)
    case "Raw":
    case "FormData":
      return Effect.die(new Error(`no endpoint answers with a body of this kind: ${body._tag}`))
  }
}

/** A partial answer must not look complete: what goes wrong breaks the connection. */
const send =
  (patience: Duration.Input) =>
  (request: HttpServerRequest.HttpServerRequest, answer: HttpServerResponse.HttpServerResponse): Effect.Effect<void> =>
    request instanceof ServerRequest && !request.response.destroyed
      ? Effect.suspend(() => write(request.response, answer, request.method === "HEAD", patience)).pipe(
          Effect.catchCause((cause) =>
            Effect.andThen(
              Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError("the answer broke off", cause),
              Effect.sync(() => request.response.destroy())
            )
          )
        )
      : Effect.void

/** What a server runs for each request. */
export type App = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  never,
  HttpServerRequest.HttpServerRequest | Scope.Scope
>

/**
 * What a request begins with: loggers, clock, tracer. The routes have their services from where they were made, and the
 * library copies all of what is here for each request; with room for what a request adds there is one copy only.
 */
const settingsOf = (context: Context.Context<never>): Context.Context<never> =>
  Context.makeUnsafe(new Map([...context.mapUnsafe].filter(([key]) => !key.startsWith("compute/"))), { maxDepth: 16 })

/**
 * Each request is a fiber in `requests`, interrupted when its client leaves.
 *
 * @param patience how long a client may take nothing of a stream
 */
export const makeHandler = (
  app: App,
  requests: Scope.Scope,
  patience: Duration.Input = stallMillis
): Effect.Effect<Handler> => {
  const handled = HttpEffect.toHandled(app, send(patience))
  return Effect.contextWith((context: Context.Context<never>) => {
    const base = settingsOf(context)
    return Effect.succeed((source, response) => {
      const request = new ServerRequest(source, response)
      response.once("finish", () => takeRest(source))
      const run = Effect.runForkWith(Context.add(base, HttpServerRequest.HttpServerRequest, request))
      const fiber = Fiber.runIn(run(handled), requests)
      response.once("close", () => {
        if (!response.writableEnded) fiber.interruptUnsafe(undefined, ClientAbort.annotation)
      })
    })
  })
}
