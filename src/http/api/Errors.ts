/**
 * Errors of the HTTP surface, one class a status.
 *
 * On the wire each is `{"error": "<message>"}`; a client that knows the API gets the class back. Browser safe.
 * Source: reference/http-api §5.1.
 */
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"

const fields = { message: Schema.String }

const Body = Schema.Struct({ error: Schema.String })

/** Wire form of a class, with its status. The description is the outermost annotation: OpenAPI looks only there. */
const wire = <A extends { readonly message: string }>(
  cls: Schema.Codec<A, unknown> & {
    new (props: { readonly message: string }): A
    readonly status: number
    readonly identifier: string
  },
  description: string
) =>
  Body.annotate({ identifier: cls.identifier })
    .pipe(
      Schema.decodeTo(
        Schema.toType(cls),
        SchemaTransformation.transform<A, { readonly error: string }>({
          decode: ({ error }) => new cls({ message: error }),
          encode: ({ message }) => ({ error: message })
        })
      ),
      HttpApiSchema.status(cls.status)
    )
    .annotate({ description })

export class BadRequest extends Schema.TaggedError<BadRequest>()("BadRequest", fields) {
  static readonly status = 400
  static readonly wire = wire(BadRequest, "Malformed token, path, query, body or spec")
}

export class Unauthorized extends Schema.TaggedError<Unauthorized>()("Unauthorized", fields) {
  static readonly status = 401
  static readonly wire = wire(Unauthorized, "The token does not verify, or is not for this kind of service")
}

export class Forbidden extends Schema.TaggedError<Forbidden>()("Forbidden", fields) {
  static readonly status = 403
  static readonly wire = wire(Forbidden, "The token is for another compute")
}

export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", fields) {
  static readonly status = 404
  static readonly wire = wire(NotFound, "No such thing")
}

export class MethodNotAllowed extends Schema.TaggedError<MethodNotAllowed>()("MethodNotAllowed", fields) {
  static readonly status = 405
  static readonly wire = wire(MethodNotAllowed, "The path has no such method")
}

export class Conflict extends Schema.TaggedError<Conflict>()("Conflict", fields) {
  static readonly status = 409
  static readonly wire = wire(Conflict, "What the request needs to know is not part of the spec")
}

export class PreconditionFailed extends Schema.TaggedError<PreconditionFailed>()("PreconditionFailed", fields) {
  static readonly status = 412
  static readonly wire = wire(PreconditionFailed, "Not in this status of the compute, or not with this configuration")
}

export class PayloadTooLarge extends Schema.TaggedError<PayloadTooLarge>()("PayloadTooLarge", fields) {
  static readonly status = 413
  static readonly wire = wire(PayloadTooLarge, "The body is longer than 2 MiB")
}

export class UnsupportedMediaType extends Schema.TaggedError<UnsupportedMediaType>()("UnsupportedMediaType", fields) {
  static readonly status = 415
  static readonly wire = wire(UnsupportedMediaType, "The body is not declared as JSON")
}

export class UnprocessableEntity extends Schema.TaggedError<UnprocessableEntity>()("UnprocessableEntity", fields) {
  static readonly status = 422
  static readonly wire = wire(UnprocessableEntity, "The body is JSON of another shape")
}

export class TooManyRequests extends Schema.TaggedError<TooManyRequests>()("TooManyRequests", fields) {
  static readonly status = 429
  static readonly wire = wire(TooManyRequests, "Already being done")
}

export class InternalError extends Schema.TaggedError<InternalError>()("InternalError", fields) {
  static readonly status = 500
  static readonly wire = wire(InternalError, "Tried, and failed")
}

export class NotImplemented extends Schema.TaggedError<NotImplemented>()("NotImplemented", fields) {
  static readonly status = 501
  static readonly wire = wire(NotImplemented, "Not implemented")
}

export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", fields) {
  static readonly status = 503
  static readonly wire = wire(Unavailable, "Postgres is not there, or the server is shutting down")
}
