/**
 * Bodies of the HTTP surface that are not part of the domain. Names are those of the wire. Browser safe.
 *
 * Optional members are `null` and never left out, but in the states of the LFC, where what does not apply is absent.
 * Source: reference/http-api §6–§8.
 */
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import { GenericOption } from "../../domain/ComputeSpec.ts"
import { ComputeStatus } from "../../domain/ComputeStatus.ts"
import { TenantId, TimelineId } from "../../domain/Identifiers.ts"
import { Lsn } from "../../domain/Lsn.ts"

export const ComputeStatusResponse = Schema.Struct({
  start_time: Schema.String.annotate({ description: "RFC 3339, ends in Z" }),
  tenant: Schema.NullOr(TenantId),
  timeline: Schema.NullOr(TimelineId),
  status: ComputeStatus,
  last_active: Schema.NullOr(Schema.String).annotate({
    description: "RFC 3339, ends in +00:00; null until user activity was seen"
  }),
  error: Schema.NullOr(Schema.String).annotate({ description: "Why the compute failed; may have several lines" })
}).annotate({ identifier: "ComputeStatusResponse" })
export type ComputeStatusResponse = typeof ComputeStatusResponse.Type

export const StartupTimeline = Schema.Struct({
  stages: Schema.Array(
    Schema.Struct({
      stage: Schema.String,
      started_at: Schema.String.annotate({ description: "RFC 3339, ends in Z" }),
      duration_ms: Schema.NullOr(Schema.Natural).annotate({ description: "null while the stage runs" }),
      error: Schema.NullOr(Schema.String)
    })
  ).annotate({ description: "In the order in which they began; a start that is tried again adds to them" })
}).annotate({ identifier: "StartupTimeline" })
export type StartupTimeline = typeof StartupTimeline.Type

/** One operation on one object that was not done. */
export const FailedOperation = Schema.Struct({
  object: Schema.String.annotate({ description: 'As in: role "alice"' }),
  operation: Schema.String.annotate({ description: "As in: create_role" }),
  database: Schema.String.annotate({ description: "Where it ran, or would have run" }),
  outcome: Schema.Literals(["failed", "skipped"]).annotate({
    description: "skipped: not tried, because of something that had failed before"
  }),
  sqlstate: Schema.NullOr(Schema.String),
  message: Schema.NullOr(Schema.String)
}).annotate({ identifier: "FailedOperation" })

export const ReconcileResponse = Schema.Struct({
  last_apply: Schema.NullOr(
    Schema.Struct({
      mode: Schema.Literals(["incremental", "full"]).annotate({
        description: "full: every database was looked into, whatever was remembered of it"
      }),
      started_at: Schema.String.annotate({ description: "RFC 3339, ends in Z" }),
      duration_ms: Schema.Natural,
      counts: Schema.Record(Schema.String, Schema.Natural).annotate({
        description: "Operations that were done, by their name; empty: everything held already"
      }),
      failures: Schema.Array(FailedOperation),
      warnings: Schema.Array(Schema.String),
      error: Schema.NullOr(Schema.String).annotate({ description: "null: everything was done" })
    })
  ).annotate({ description: "The last work on roles, databases and grants; null: there was none" }),
  pending_restart: Schema.Array(Schema.String).annotate({
    description: "Settings whose new value waits for a restart of Postgres, as of the last reload"
  })
}).annotate({ identifier: "ReconcileResponse" })
export type ReconcileResponse = typeof ReconcileResponse.Type

export const TerminateMode = Schema.Literals(["fast", "immediate"]).annotate({
  identifier: "TerminateMode",
  description: "How long the process lingers after the end: 30 seconds, or hardly"
})

export const TerminateResponse = Schema.Struct({
  lsn: Schema.NullOr(Lsn).annotate({ description: "Position after the last sync of the safekeepers, or null" })
}).annotate({ identifier: "TerminateResponse" })

export const PromoteResponse = Schema.Struct({
  status: Schema.Literal("completed"),
  lsn_wait_time_ms: Schema.Natural,
  pg_promote_time_ms: Schema.Natural,
  reconfigure_time_ms: Schema.Natural
}).annotate({ identifier: "PromoteResponse" })

/** The one error that is not `{"error": …}` alone. */
export const PromoteFailed = Schema.Struct({ status: Schema.Literal("failed"), error: Schema.String })
  .annotate({ identifier: "PromoteFailed" })
  .pipe(HttpApiSchema.status(500))

const idle = <const Status extends string>(status: Status) => Schema.Struct({ status: Schema.Literal(status) })
const lfcFailed = Schema.Struct({ status: Schema.Literal("failed"), error: Schema.String })

export const LfcPrewarmState = Schema.Union([
  idle("not_prewarmed"),
  idle("prewarming"),
  Schema.Struct({
    status: Schema.Literal("completed"),
    total: Schema.Int,
    prewarmed: Schema.Int,
    skipped: Schema.Int,
    state_download_time_ms: Schema.Natural,
    uncompress_time_ms: Schema.Natural,
    prewarm_time_ms: Schema.Natural
  }),
  lfcFailed,
  idle("skipped"),
  idle("cancelled")
]).annotate({ identifier: "LfcPrewarmState" })
export type LfcPrewarmState = typeof LfcPrewarmState.Type

export const LfcOffloadState = Schema.Union([
  idle("not_offloaded"),
  idle("offloading"),
  Schema.Struct({
    status: Schema.Literal("completed"),
    state_query_time_ms: Schema.Natural,
    compress_time_ms: Schema.Natural,
    state_upload_time_ms: Schema.Natural
  }),
  lfcFailed,
  idle("skipped")
]).annotate({ identifier: "LfcOffloadState" })
export type LfcOffloadState = typeof LfcOffloadState.Type

export const CatalogRole = Schema.Struct({
  name: Schema.String,
  encrypted_password: Schema.NullOr(Schema.String),
  options: Schema.NullOr(Schema.Array(GenericOption))
}).annotate({ identifier: "CatalogRole" })

export const CatalogDatabase = Schema.Struct({
  name: Schema.String,
  owner: Schema.String,
  restrict_conn: Schema.Boolean.annotate({ description: "Connections are not allowed" }),
  invalid: Schema.Boolean.annotate({ description: "Half dropped" }),
  options: Schema.NullOr(Schema.Array(GenericOption))
}).annotate({ identifier: "CatalogDatabase" })

export const CatalogObjects = Schema.Struct({
  roles: Schema.Array(CatalogRole),
  databases: Schema.Array(CatalogDatabase)
}).annotate({ identifier: "CatalogObjects" })

export const Insights = Schema.Struct({
  pg_stat_statements: Schema.Array(Schema.Record(Schema.String, Schema.Json))
}).annotate({ identifier: "Insights" })

/** Name of something in Postgres, which cannot hold a NUL. */
export const Name = Schema.String.check(Schema.isPattern(/^[^\0]*$/u, { expected: "a text without NUL" }))

export const InstallExtensionRequest = Schema.Struct({
  extension: Name,
  database: Name,
  version: Name
}).annotate({ identifier: "InstallExtensionRequest" })

export const InstallExtensionResponse = Schema.Struct({
  extension: Schema.String,
  version: Schema.String
}).annotate({ identifier: "InstallExtensionResponse" })

export const Privilege = Schema.Literals([
  "SELECT",
  "INSERT",
  "UPDATE",
  "DELETE",
  "TRUNCATE",
  "REFERENCES",
  "TRIGGER",
  "USAGE",
  "CREATE",
  "CONNECT",
  "TEMPORARY",
  "EXECUTE"
]).annotate({ identifier: "Privilege" })

/** Body of `POST /grants`, echoed by its answer. */
export const SchemaGrant = Schema.Struct({
  database: Name,
  schema: Name,
  privileges: Schema.Array(Privilege),
  role: Name
}).annotate({ identifier: "SchemaGrant" })

export const Health = Schema.Struct({
  loops: Schema.Array(
    Schema.Struct({
      name: Schema.String,
      work: Schema.NullOr(Schema.String).annotate({ description: "null: it waits for something to do" }),
      for_ms: Schema.Natural
    })
  ).annotate({ description: "What keeps the node going" })
}).annotate({ identifier: "Health" })
export type Health = typeof Health.Type

export const Readiness = Schema.Struct({ status: ComputeStatus }).annotate({ identifier: "Readiness" })

export const Failpoints = Schema.Array(
  Schema.Struct({
    name: Schema.String,
    actions: Schema.String.annotate({ description: "As `2*sleep(10)->return(text)`, `pause`, `exit`, `off`" })
  })
).annotate({ identifier: "Failpoints" })
