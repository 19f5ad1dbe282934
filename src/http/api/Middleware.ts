/** What stands between the router and the handlers: declarations only, browser safe. */
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSecurity from "effect/http-api/HttpApiSecurity"
import * as E from "./Errors.ts"

/** Lets a request with an acceptable token through. Last middleware of a group: it runs before anything is decoded. */
export class Authorization extends HttpApiMiddleware.Service<Authorization>()("compute/http/Authorization", {
  error: [E.BadRequest.wire, E.Unauthorized.wire, E.Forbidden.wire],
  security: { bearer: HttpApiSecurity.bearer }
}) {}

/** Answers undecodable paths and queries. On every endpoint that has any. */
export class Decoding extends HttpApiMiddleware.Service<Decoding>()("compute/http/Decoding", {
  error: E.BadRequest.wire
}) {}

/** Reads the body and answers what is wrong with it. On every endpoint with a payload. */
export class JsonBody extends HttpApiMiddleware.Service<JsonBody>()("compute/http/JsonBody", {
  error: [E.BadRequest.wire, E.PayloadTooLarge.wire, E.UnsupportedMediaType.wire, E.UnprocessableEntity.wire]
}) {}
