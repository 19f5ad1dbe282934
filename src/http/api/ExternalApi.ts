/**
 * The external server: what a control plane, metrics scrapers and the autoscaling agent call. Browser safe.
 *
 * Order of checks: path, method, authorization, query and body, status of the compute. Source: reference/http-api §2, §7.
 */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import { ConfigurationRequest, PromoteConfig } from "../../domain/ComputeConfig.ts"
import { ComputeMetrics } from "../../domain/ComputeMetrics.ts"
import { DocsGroup } from "./DocsGroup.ts"
import * as E from "./Errors.ts"
import { Authorization, Decoding, JsonBody } from "./Middleware.ts"
import * as S from "./Schemas.ts"

/** Life of the compute. */
export class ControlGroup extends HttpApiGroup.make("control")
  .add(
    HttpApiEndpoint.get("status", "/status", { success: S.ComputeStatusResponse }).annotate(
      OpenApi.Summary,
      "Status of the compute"
    ),
    HttpApiEndpoint.get("startupMetrics", "/metrics.json", { success: ComputeMetrics }).annotate(
      OpenApi.Summary,
      "Timings of the startup"
    ),
    HttpApiEndpoint.get("timeline", "/timeline", { success: S.StartupTimeline }).annotate(
      OpenApi.Summary,
      "Stages of the start, also while they run"
    ),
    HttpApiEndpoint.get("reconcile", "/reconcile", { success: S.ReconcileResponse }).annotate(
      OpenApi.Summary,
      "What the last work on roles, databases and settings did, and what it could not do"
    ),
    HttpApiEndpoint.post("configure", "/configure", {
      payload: ConfigurationRequest,
      success: S.ComputeStatusResponse,
      error: [E.PreconditionFailed.wire, E.InternalError.wire]
    })
      .middleware(JsonBody)
      .annotate(OpenApi.Summary, "Bring up or apply a spec; answers when that is done"),
    HttpApiEndpoint.post("terminate", "/terminate", {
      query: { mode: Schema.optionalKey(S.TerminateMode) },
      success: [
        S.TerminateResponse.annotate({ description: "Stopped" }),
        S.TerminateResponse.pipe(HttpApiSchema.status(201)).annotate({ description: "Had been stopped before" })
      ],
      error: [E.PreconditionFailed.wire, E.InternalError.wire]
    }).annotate(OpenApi.Summary, "Stop Postgres and end the process; answers when Postgres is down"),
    HttpApiEndpoint.post("promote", "/promote", {
      payload: PromoteConfig,
      success: S.PromoteResponse,
      error: [S.PromoteFailed, E.PreconditionFailed.wire, E.NotImplemented.wire]
    })
      .middleware(JsonBody)
      .annotate(OpenApi.Summary, "Make a replica the primary"),
    HttpApiEndpoint.get("liveness", "/hadron_liveness_probe", {
      success: Schema.Literal("ok"),
      error: E.Unavailable.wire
    }).annotate(OpenApi.Summary, "Whether Postgres is alive")
  )
  .middleware(Decoding)
  .middleware(Authorization) {}

/** The local file cache of Postgres. */
export class LfcGroup extends HttpApiGroup.make("lfc")
  .add(
    HttpApiEndpoint.get("prewarmState", "/lfc/prewarm", { success: S.LfcPrewarmState }).annotate(
      OpenApi.Summary,
      "How far filling the cache has come"
    ),
    HttpApiEndpoint.post("prewarm", "/lfc/prewarm", {
      query: { from_endpoint: Schema.optionalKey(Schema.String) },
      success: HttpApiSchema.Accepted,
      error: [E.PreconditionFailed.wire, E.TooManyRequests.wire, E.NotImplemented.wire]
    }).annotate(OpenApi.Summary, "Fill the cache from the state that an endpoint has offloaded"),
    HttpApiEndpoint.delete("cancelPrewarm", "/lfc/prewarm", { success: HttpApiSchema.Accepted }).annotate(
      OpenApi.Summary,
      "Stop filling the cache"
    ),
    HttpApiEndpoint.get("offloadState", "/lfc/offload", { success: S.LfcOffloadState }).annotate(
      OpenApi.Summary,
      "How far storing the state of the cache has come"
    ),
    HttpApiEndpoint.post("offload", "/lfc/offload", {
      success: HttpApiSchema.Accepted,
      error: [E.PreconditionFailed.wire, E.TooManyRequests.wire, E.NotImplemented.wire]
    }).annotate(OpenApi.Summary, "Store the state of the cache")
  )
  .middleware(Decoding)
  .middleware(Authorization) {}

/** Questions that are answered by SQL. */
export class DatabaseGroup extends HttpApiGroup.make("database")
  .add(
    HttpApiEndpoint.post("checkWritability", "/check_writability", {
      success: Schema.Boolean,
      error: [E.PreconditionFailed.wire, E.InternalError.wire]
    }).annotate(OpenApi.Summary, "Write a row"),
    HttpApiEndpoint.get("schema", "/database_schema", {
      query: { database: S.Name },
      // Plain SQL, under the content type that callers know.
      success: HttpApiSchema.StreamUint8Array({ contentType: "application/json" }),
      error: [E.NotFound.wire, E.InternalError.wire, E.Unavailable.wire]
    }).annotate(OpenApi.Summary, "Dump of the schema of a database, as SQL"),
    HttpApiEndpoint.get("catalogObjects", "/dbs_and_roles", {
      success: S.CatalogObjects,
      error: [E.InternalError.wire, E.Unavailable.wire]
    }).annotate(OpenApi.Summary, "All databases and roles"),
    HttpApiEndpoint.get("insights", "/insights", {
      success: S.Insights,
      error: [E.PreconditionFailed.wire, E.InternalError.wire, E.Unavailable.wire]
    }).annotate(OpenApi.Summary, "Statements that take longest")
  )
  .middleware(Decoding)
  .middleware(Authorization) {}

/** Another service answers. */
const handedOn: typeof OpenApi.Transform.Service = (operation) => ({
  ...operation,
  responses: {
    ...operation["responses"],
    default: {
      description: "Any status, type and text of the neon extension's service",
      content: { "*/*": { schema: {} } }
    }
  }
})

/** For scrapers, which have no token. */
export class MetricsGroup extends HttpApiGroup.make("metrics").add(
  HttpApiEndpoint.get("prometheus", "/metrics", {
    success: Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/plain; version=0.0.4" }))
  }).annotate(OpenApi.Summary, "Metrics of compute_ctl, as Prometheus text"),
  HttpApiEndpoint.get("autoscaling", "/autoscaling_metrics", {
    success: HttpApiSchema.StreamUint8Array({ contentType: "application/text" }),
    error: E.InternalError.wire
  })
    .annotate(OpenApi.Summary, "Metrics of the local file cache, as Postgres gives them")
    .annotate(OpenApi.Transform, handedOn)
) {}

/** For whoever restarts nodes and sends users to them; no token either. */
export class HealthGroup extends HttpApiGroup.make("health").add(
  HttpApiEndpoint.get("healthz", "/healthz", { success: S.Health, error: E.Unavailable.wire }).annotate(
    OpenApi.Summary,
    "Whether the loops of the process make progress; 503 names the one that does not"
  ),
  HttpApiEndpoint.get("readyz", "/readyz", { success: S.Readiness, error: E.Unavailable.wire }).annotate(
    OpenApi.Summary,
    "Whether a spec is live and Postgres accepts connections"
  )
) {}

export class ExternalApi extends HttpApi.make("external")
  .add(ControlGroup, LfcGroup, DatabaseGroup, MetricsGroup, HealthGroup)
  .add(DocsGroup)
  .annotate(OpenApi.Title, "compute_ctl, external server") {}
