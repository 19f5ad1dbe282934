/**
 * Statuses of undecodable requests: the library says 400 without a body to all of them.
 *
 * Source: reference/http-api §5.4.
 */
import { isUtf8 } from "node:buffer"
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpApiError from "effect/http-api/HttpApiError"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type { unhandled } from "effect/Types"
import { firstIssue } from "../domain/schemaIssue.ts"
import * as E from "./api/Errors.ts"
import { Decoding, JsonBody } from "./api/Middleware.ts"
import { answer } from "./edge.ts"

const bodyLimit = ByteSize.mebibytes(2)

/** In the words that callers know, where the original has some. */
const detail = (error: Schema.SchemaError): string =>
  firstIssue(error)
    .replace(/^(?<path>.+): Missing key$/su, "missing field `$<path>`")
    .toLowerCase()

const badQuery = (text: string) => new E.BadRequest({ message: `failed to deserialize query string: ${text}` })

export const layerDecoding = HttpApiMiddleware.layerSchemaErrorTransform(Decoding, (error) => {
  switch (error.kind) {
    case "Query":
      return Effect.fail(badQuery(detail(error.cause)))
    case "Params":
      return Effect.succeed(answer(E.NotFound, "not found")) // the empty rest of a wildcard
    default:
      return Effect.fail(error)
  }
})

/** Where a query string exists, even an empty one, it must have this parameter. */
export const requireInQuery = (
  request: HttpServerRequest.HttpServerRequest,
  name: string,
  value: unknown
): Effect.Effect<void, E.BadRequest> =>
  value === undefined && request.url.includes("?") ? Effect.fail(badQuery(`missing field \`${name}\``)) : Effect.void

const isJson = (contentType: string): boolean =>
  contentType === "application/json" || /^application\/[^\s;]+\+json$/u.test(contentType)

/** Why it is not JSON, without the piece of the document that V8 quotes: it may hold a password. */
const syntaxProblem = (text: string): string | undefined => {
  try {
    JSON.parse(text)
    return undefined
  } catch (error) {
    const message = error instanceof Error ? error.message : ""
    return message.replace(/, (?:\.\.\.)?".*is not valid JSON$/su, "").toLowerCase()
  }
}

const malformed = (text: string) => new E.BadRequest({ message: `failed to parse the request body as json: ${text}` })

/** 415, 413, 400, 422, in this order. The body is read once, here; the decoder behind it gets the cached bytes. */
export const layerJsonBody = Layer.succeed(JsonBody, (httpEffect) =>
  Effect.gen(function* () {
    const received = yield* HttpServerRequest.HttpServerRequest
    const contentType = (received.headers["content-type"] ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? ""
    if (!isJson(contentType)) {
      return yield* new E.UnsupportedMediaType({ message: "expected request with `content-type: application/json`" })
    }
    const request = received.modify({ headers: Headers.set(received.headers, "content-type", "application/json") })
    const bytes = yield* request.arrayBuffer.pipe(
      Effect.provideService(HttpIncomingMessage.MaxBodySize, bodyLimit),
      Effect.mapError(({ reason }) =>
        reason._tag === "RequestParseError" && reason.reason === "BodyTooLarge"
          ? new E.PayloadTooLarge({ message: "failed to buffer the request body: length limit exceeded" })
          : new E.BadRequest({ message: "failed to buffer the request body: the connection broke" })
      )
    )
    if (!isUtf8(bytes)) return yield* malformed("invalid unicode code point")
    return yield* Effect.catch(
      Effect.provideService(httpEffect, HttpServerRequest.HttpServerRequest, request),
      (error): Effect.Effect<never, unhandled | E.BadRequest | E.UnprocessableEntity> => {
        if (!HttpApiError.HttpApiSchemaError.is(error) || error.kind !== "Payload") return Effect.fail(error)
        const problem = syntaxProblem(new TextDecoder().decode(bytes)) // only to tell 400 from 422
        return Effect.fail(
          problem === undefined
            ? new E.UnprocessableEntity({
                message: `failed to deserialize the json body into the target type: ${detail(error.cause)}`
              })
            : malformed(problem)
        )
      }
    )
  })
)
