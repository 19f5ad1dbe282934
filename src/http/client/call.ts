/** One call over HTTP: request, answer, errors, deadline, repetition. Browser safe. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { firstIssue } from "../../domain/schemaIssue.ts"
import * as Errors from "../api/Errors.ts"
import { requestOf } from "./configuration.ts"
import { type ApiError, errorOf, UnexpectedAnswer, Unreachable } from "./errors.ts"
import { mayRepeat, repeating } from "./repetition.ts"
import { type ByteStream, type Route, wildcardName } from "./surface.ts"

/** How to reach one server. */
export interface Connection {
  /** Undefined: every call fails with `Unreachable`. */
  readonly url: string | undefined
  readonly token: string | Redacted.Redacted<string> | undefined
  /** For one try of a GET, but for those that stream. */
  readonly timeout: Duration.Input
  /** How often a call that may be repeated is. */
  readonly retries: number
}

/** A good answer. */
export type Received = { readonly bytes: ByteStream } | { readonly document: unknown }

type CallError = ApiError | UnexpectedAnswer | Unreachable

/** The innermost reason: `connect ECONNREFUSED 127.0.0.1:3080`. */
const reasonOf = (error: unknown, depth = 0): string => {
  if (!(error instanceof Error)) return String(error)
  const inner: unknown = error instanceof AggregateError ? error.errors[0] : error.cause
  return inner === undefined || inner === null || depth > 10 ? error.message || error.name : reasonOf(inner, depth + 1)
}

/** The request stays out of it: it carries the token. */
const unreachable = (url: string, what: string) => (error: HttpClientError.HttpClientError) =>
  new Unreachable({ url, message: `${url} ${what}: ${reasonOf(error)}`, cause: error.cause })

/** The input as a lookup of members. */
const membersOf = (input: unknown): ReadonlyMap<string, unknown> =>
  new Map(typeof input === "object" && input !== null ? Object.entries(input) : [])

/** A part of a path; `.` and `..` would lead to another route. */
const segment = (text: string): Result.Result<string, Errors.BadRequest> =>
  text === "" || text === "." || text === ".."
    ? Result.fail(new Errors.BadRequest({ message: `invalid url: ${JSON.stringify(text)} cannot be part of a path` }))
    : Result.succeed(encodeURIComponent(text))

/** Fills in `:name` and `*`; slashes in the latter stay. */
const pathOf = (path: string, input: ReadonlyMap<string, unknown>): Result.Result<string, Errors.BadRequest> =>
  Result.gen(function* () {
    const parts: Array<string> = []
    for (const part of path.split("/").slice(1)) {
      if (part === "*") {
        for (const piece of String(input.get(wildcardName) ?? "").split("/")) parts.push(yield* segment(piece))
      } else {
        parts.push(part.startsWith(":") ? yield* segment(String(input.get(part.slice(1)) ?? "")) : part)
      }
    }
    return `/${parts.join("/")}`
  })

const bodyOf = (route: Route, input: unknown): unknown => (route.name === "configure" ? requestOf(input) : input)

const requestFor = (route: Route, url: string, { token }: Connection, input: unknown) =>
  Result.map(pathOf(route.path, membersOf(input)), (path) => {
    const members = membersOf(input)
    const urlParams = route.query.flatMap((name): ReadonlyArray<readonly [string, string]> => {
      const value = members.get(name)
      return value === undefined || value === null ? [] : [[name, String(value)]]
    })
    const request = HttpClientRequest.make(route.method)(`${url.replace(/\/+$/u, "")}${path}`, { urlParams })
    const authorized = token === undefined ? request : HttpClientRequest.bearerToken(request, token)
    return route.hasBody
      ? HttpClientRequest.bodyText(authorized, JSON.stringify(bodyOf(route, input)) ?? "", "application/json")
      : authorized
  })

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const longest = 200

/** Text of an error: that of the API, else the begin of what was answered. */
const messageOf = (status: number, text: string): string => {
  const body = parsed(text)
  if (typeof body === "object" && body !== null && "error" in body && typeof body.error === "string") return body.error
  const plain = text.trim().slice(0, longest)
  return plain === "" ? `HTTP status ${status} without a message` : plain
}

const isJson = (response: HttpClientResponse.HttpClientResponse): boolean =>
  /^application\/(?:[\w.-]+\+)?json\b/iu.test(response.headers["content-type"] ?? "")

const mismatch = (status: number, error: Schema.SchemaError): UnexpectedAnswer =>
  new UnexpectedAnswer({ status, message: `the answer is of another shape: ${firstIssue(error)}` })

/** A good answer as it came, once it is known to have the shape that the route promises. */
const answerOf = (
  { accepts }: Route,
  response: HttpClientResponse.HttpClientResponse,
  text: string
): Effect.Effect<Received, CallError> => {
  const { status } = response
  const check = accepts(status)
  if (check === undefined) return Effect.fail(errorOf(status, messageOf(status, text)))
  // No body is to the definitions what `null` is.
  const body = text === "" ? null : isJson(response) ? parsed(text) : text
  return Effect.matchEffect(check(body), {
    onFailure: (error) => Effect.fail(mismatch(status, error)),
    onSuccess: () => Effect.succeed({ document: text === "" ? undefined : body })
  })
}

/** Calls of one server. */
export const caller =
  (http: HttpClient.HttpClient, connection: Connection) =>
  (route: Route) =>
  (input: unknown): Effect.Effect<Received, CallError> => {
    const { retries, timeout, url } = connection
    if (url === undefined) {
      const message = `${route.name} belongs to the internal server, whose URL was not given`
      return Effect.fail(new Unreachable({ url, message }))
    }
    const request = requestFor(route, url, connection, input)
    if (Result.isFailure(request)) return Effect.fail(request.failure)
    const brokeOff = unreachable(url, "broke off its answer")
    const once: Effect.Effect<Received, CallError> = Effect.gen(function* () {
      const response = yield* Effect.mapError(http.execute(request.success), unreachable(url, "cannot be reached"))
      if (route.streams && response.status === 200) return { bytes: Stream.mapError(response.stream, brokeOff) }
      return yield* answerOf(route, response, yield* Effect.mapError(response.text, brokeOff))
    })
    const timed =
      route.method === "GET" && !route.streams
        ? Effect.timeoutOrElse(once, {
            duration: timeout,
            orElse: () => Effect.fail(new Unreachable({ url, message: `${url} did not answer in time` }))
          })
        : once
    return mayRepeat(route) ? repeating(retries)(timed) : timed
  }
