/** What describes the API itself; no token. Browser safe. */
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import * as E from "./Errors.ts"

export class DocsGroup extends HttpApiGroup.make("docs").add(
  HttpApiEndpoint.get("openapi", "/openapi.json", {
    success: Schema.Record(Schema.String, Schema.Json),
    error: E.InternalError.wire
  }).annotate(OpenApi.Summary, "This API as an OpenAPI 3.1 document, both servers"),
  HttpApiEndpoint.get("page", "/docs", {
    success: Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/html; charset=utf-8" })),
    error: E.InternalError.wire
  }).annotate(OpenApi.Summary, "The same for people, as a page that needs nothing from elsewhere")
) {}
