/**
 * The spec: everything the control plane wants of a compute.
 *
 * Names are those of the wire. `null` and an absent key mean the same where a member is optional; a member with a
 * default may be absent but not null. Unknown members are dropped. Source: reference/compute-spec §4–§6, §10.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { TenantId, TimelineId } from "./Identifiers.ts"
import { Lsn } from "./Lsn.ts"
import { PageserverConnectionInfo } from "./PageserverConnection.ts"
import { optional, u32 } from "./wire.ts"

const flag = Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false)))

/** A name with a value: a Postgres setting, or an SQL option of a role or database. */
export const GenericOption = Schema.Struct({
  name: Schema.String,
  /** Null: the bare name. */
  value: optional(Schema.String),
  /** Only `string` is special: the value is quoted. */
  vartype: Schema.String
}).annotate({ identifier: "GenericOption" })
export type GenericOption = typeof GenericOption.Type

export const Role = Schema.Struct({
  name: Schema.String,
  /** SCRAM verifier, or an md5 digest without its `md5` prefix; null: no password. */
  encrypted_password: optional(Schema.String),
  options: optional(Schema.Array(GenericOption))
}).annotate({ identifier: "Role" })
export type Role = typeof Role.Type

/** `restrict_conn` and `invalid` of the wire are output of the catalog; on input they are dropped like unknown members. */
export const Database = Schema.Struct({
  name: Schema.String,
  owner: Schema.String,
  options: optional(Schema.Array(GenericOption))
}).annotate({ identifier: "Database" })
export type Database = typeof Database.Type

export const Cluster = Schema.Struct({
  cluster_id: optional(Schema.String),
  name: optional(Schema.String),
  state: optional(Schema.String),
  roles: Schema.Array(Role),
  databases: Schema.Array(Database),
  /** Text that opens `postgresql.conf`. */
  postgresql_conf: optional(Schema.String),
  settings: optional(Schema.Array(GenericOption))
}).annotate({ identifier: "Cluster" })
export type Cluster = typeof Cluster.Type

/** A one-off change: `delete_db`, `rename_db`, `delete_role`, `rename_role`; other actions are ignored. */
export const DeltaOp = Schema.Struct({
  action: Schema.String,
  name: Schema.String,
  new_name: optional(Schema.String)
}).annotate({ identifier: "DeltaOp" })
export type DeltaOp = typeof DeltaOp.Type

const never = Schema.optionalKey(Schema.Never.annotate({ message: "Expected a single mode" }))
const modes = '"Primary", "Replica" or {"Static": "<LSN>"}'

/** `"Primary"`, `"Replica"` or `{"Static": "<LSN>"}` on the wire; the first two also as `{"Primary": null}`. */
export const ComputeMode = Schema.Union([
  Schema.Literals(["Primary", "Replica"]).annotate({ message: `Expected ${modes}` }),
  Schema.Struct({ Static: Lsn, Primary: never, Replica: never }),
  Schema.Struct({ Primary: Schema.Null, Replica: never, Static: never }),
  Schema.Struct({ Replica: Schema.Null, Primary: never, Static: never })
])
  .annotate({ identifier: "ComputeMode", message: `Expected ${modes}` })
  .pipe(
    Schema.decodeTo(
      Schema.Union([
        Schema.TaggedStruct("Primary", {}),
        Schema.TaggedStruct("Replica", {}),
        Schema.TaggedStruct("Static", { lsn: Schema.toType(Lsn) })
      ]),
      {
        decode: SchemaGetter.transform((wire) => {
          if (wire === "Primary" || wire === "Replica") return { _tag: wire }
          if ("Static" in wire) return { _tag: "Static" as const, lsn: wire.Static }
          return { _tag: "Primary" in wire ? ("Primary" as const) : ("Replica" as const) }
        }),
        encode: SchemaGetter.transform((mode) => (mode._tag === "Static" ? { Static: mode.lsn } : mode._tag))
      }
    )
  )
export type ComputeMode = typeof ComputeMode.Type

export const ComputeAudit = Schema.Literals(["Disabled", "Log", "Base", "Hipaa", "Extended", "Full"]).annotate({
  identifier: "ComputeAudit"
})
export type ComputeAudit = typeof ComputeAudit.Type

export const TlsConfig = Schema.Struct({ key_path: Schema.String, cert_path: Schema.String }).annotate({
  identifier: "TlsConfig"
})
export type TlsConfig = typeof TlsConfig.Type

export const ExtensionData = Schema.Struct({
  /** Text of each control file by its name. */
  control_data: Schema.Record(Schema.String, Schema.String),
  archive_path: Schema.String
}).annotate({ identifier: "ExtensionData" })
export type ExtensionData = typeof ExtensionData.Type

export const RemoteExtSpec = Schema.Struct({
  public_extensions: optional(Schema.Array(Schema.String)),
  custom_extensions: optional(Schema.Array(Schema.String)),
  /** Extension by library, without the suffix of the file. */
  library_index: Schema.Record(Schema.String, Schema.String),
  extension_data: Schema.Record(Schema.String, ExtensionData)
}).annotate({ identifier: "RemoteExtSpec" })
export type RemoteExtSpec = typeof RemoteExtSpec.Type

export const JwksSettings = Schema.Struct({
  id: Schema.String,
  role_names: Schema.Array(Schema.String),
  jwks_url: Schema.String,
  provider_name: Schema.String,
  jwt_audience: optional(Schema.String)
}).annotate({ identifier: "JwksSettings" })
export type JwksSettings = typeof JwksSettings.Type

export const LocalProxySpec = Schema.Struct({
  jwks: optional(Schema.Array(JwksSettings)),
  tls: optional(TlsConfig)
}).annotate({ identifier: "LocalProxySpec" })
export type LocalProxySpec = typeof LocalProxySpec.Type

export const PgComputeTlsSettings = Schema.Struct({
  cert_file: Schema.String,
  key_file: Schema.String,
  ca_file: Schema.String
}).annotate({ identifier: "PgComputeTlsSettings" })
export type PgComputeTlsSettings = typeof PgComputeTlsSettings.Type

export const DatabricksSettings = Schema.Struct({
  pg_compute_tls_settings: PgComputeTlsSettings,
  databricks_pg_hba: Schema.String,
  databricks_pg_ident: Schema.String,
  databricks_workspace_host: Schema.String
}).annotate({ identifier: "DatabricksSettings" })
export type DatabricksSettings = typeof DatabricksSettings.Type

export const ComputeSpec = Schema.Struct({
  format_version: Schema.Finite,
  operation_uuid: optional(Schema.String),
  /** Unknown features have no effect. */
  features: Schema.Array(Schema.String).pipe(Schema.withDecodingDefaultKey(Effect.succeed([]))),
  swap_size_bytes: optional(Schema.Natural),
  disk_quota_bytes: optional(Schema.Natural),
  disable_lfc_resizing: optional(Schema.Boolean),
  cluster: Cluster,
  delta_operations: optional(Schema.Array(DeltaOp)),
  skip_pg_catalog_updates: flag,
  tenant_id: optional(TenantId),
  timeline_id: optional(TimelineId),
  pageserver_connection_info: optional(PageserverConnectionInfo),
  /** Legacy: connection strings of all shards, joined by commas. */
  pageserver_connstring: optional(Schema.String),
  /** Legacy: pages of 8 KiB, companion of `pageserver_connstring`. */
  shard_stripe_size: optional(u32),
  project_id: optional(Schema.String),
  branch_id: optional(Schema.String),
  endpoint_id: optional(Schema.String),
  safekeepers_generation: optional(u32),
  /** `host:port` each. */
  safekeeper_connstrings: Schema.Array(Schema.String).pipe(Schema.withDecodingDefaultKey(Effect.succeed([]))),
  mode: ComputeMode.pipe(Schema.withDecodingDefaultKey(Effect.succeed("Primary" as const))),
  storage_auth_token: optional(Schema.String),
  remote_extensions: optional(RemoteExtSpec),
  pgbouncer_settings: optional(Schema.Record(Schema.String, Schema.String)),
  local_proxy_config: optional(LocalProxySpec),
  /** Databases worked on at once during a reconfiguration. */
  reconfigure_concurrency: Schema.Natural.pipe(Schema.withDecodingDefaultKey(Effect.succeed(1))),
  drop_subscriptions_before_start: flag,
  audit_log_level: ComputeAudit.pipe(Schema.withDecodingDefaultKey(Effect.succeed("Disabled" as const))),
  logs_export_host: optional(Schema.String),
  /** `host:port`, no scheme. */
  endpoint_storage_addr: optional(Schema.String),
  endpoint_storage_token: optional(Schema.String),
  autoprewarm: flag,
  /** Seconds, at least 1. */
  offload_lfc_interval_seconds: optional(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))),
  /** Tunes the period of a statistics task; -1 and 0 mean its default. Suspends nothing. */
  suspend_timeout_seconds: Schema.Int,
  databricks_settings: optional(DatabricksSettings)
}).annotate({ identifier: "ComputeSpec" })
export type ComputeSpec = typeof ComputeSpec.Type

/** Value of a setting by its exact name. Only the first of that name counts; a null value is not found. */
export const findSetting = (spec: ComputeSpec, name: string): string | undefined =>
  spec.cluster.settings?.find((setting) => setting.name === name)?.value ?? undefined

/** Features with an effect; others are carried along. */
export type ComputeFeature = "activity_monitor_experimental" | "tls_experimental"

export const hasFeature = (spec: ComputeSpec, feature: ComputeFeature): boolean => spec.features.includes(feature)
