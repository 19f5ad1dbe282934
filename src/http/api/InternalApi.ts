/**
 * The internal server: what Postgres and its neighbours on the same machine call. No authorization. Browser safe.
 *
 * Source: reference/http-api §2, §8.
 */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import * as E from "./Errors.ts"
import { Decoding, JsonBody } from "./Middleware.ts"
import * as S from "./Schemas.ts"

export class ExtensionsGroup extends HttpApiGroup.make("extensions")
  .add(
    HttpApiEndpoint.post("download", "/extension_server/*", {
      params: { "*": Schema.NonEmptyString },
      query: { is_library: Schema.optionalKey(Schema.Boolean) },
      success: HttpApiSchema.Empty(200),
      error: [E.NotFound.wire, E.Conflict.wire, E.PreconditionFailed.wire, E.InternalError.wire, E.NotImplemented.wire]
    }).annotate(OpenApi.Summary, "Put the files of an extension or library into place"),
    HttpApiEndpoint.post("install", "/extensions", {
      payload: S.InstallExtensionRequest,
      success: S.InstallExtensionResponse.pipe(HttpApiSchema.status(201)),
      error: [E.PreconditionFailed.wire, E.InternalError.wire, E.Unavailable.wire]
    })
      .middleware(JsonBody)
      .annotate(OpenApi.Summary, "Create an extension in a database, or update it")
  )
  .middleware(Decoding) {}

export class GrantsGroup extends HttpApiGroup.make("grants").add(
  HttpApiEndpoint.post("grant", "/grants", {
    payload: S.SchemaGrant,
    success: S.SchemaGrant.pipe(HttpApiSchema.status(201)),
    error: [E.PreconditionFailed.wire, E.InternalError.wire, E.Unavailable.wire]
  })
    .middleware(JsonBody)
    .annotate(OpenApi.Summary, "Grant privileges on a schema to a role")
) {}

export class RefreshGroup extends HttpApiGroup.make("refresh").add(
  HttpApiEndpoint.post("refreshConfiguration", "/refresh_configuration", {
    success: HttpApiSchema.Empty(200),
    error: E.InternalError.wire
  }).annotate(OpenApi.Summary, "Tell that the configuration may be stale")
) {}

/** For tests. Only where the process was started with `--enable-failpoints`; else there is no such path. */
export class FailpointsGroup extends HttpApiGroup.make("failpoints").add(
  HttpApiEndpoint.post("configureFailpoints", "/failpoints", {
    payload: S.Failpoints,
    success: HttpApiSchema.Empty(200),
    error: [E.BadRequest.wire, E.NotFound.wire]
  })
    .middleware(JsonBody)
    .annotate(OpenApi.Summary, "Make named places fail, wait or exit; 404 without `--enable-failpoints`")
) {}

/** OpenAPI has no wildcards: the rest of the path gets its name. */
const nameWildcard = (document: object) =>
  JSON.parse(
    JSON.stringify(document)
      .replace('"/extension_server/*"', '"/extension_server/{filename}"')
      .replace('"name":"*"', '"name":"filename"')
  )

const Plain = HttpApi.make("internal")
  .add(ExtensionsGroup, GrantsGroup, RefreshGroup)
  .annotate(OpenApi.Title, "compute_ctl, internal server")
  .annotate(OpenApi.Transform, nameWildcard)

/** What a node serves unless it was started with `--enable-failpoints`. */
export class PlainInternalApi extends Plain {}

/** All routes. */
export class InternalApi extends Plain.add(FailpointsGroup) {}
