/**
 * Text of `postgresql.conf`, and of the lines that we add to other files of PGDATA.
 *
 * The order is the interface: for Postgres the last line of a name wins, and the last line of all includes the file
 * that can override everything. Bytes as Neon writes them. Source: reference/startup §13, §14.
 */
import * as Data from "effect/Data"
import * as Result from "effect/Result"
import { type ComputeMode, type ComputeSpec, findSetting, type GenericOption } from "./ComputeSpec.ts"
import * as Lsn from "./Lsn.ts"
import * as PageserverConnection from "./PageserverConnection.ts"

export const confFile = "postgresql.conf"
/** Holds limits that are lifted while we work on the catalog, else it is empty. */
export const temporaryOverrideFile = "compute_ctl_temp_override.conf"
export const hbaFile = "pg_hba.conf"
export const identFile = "pg_ident.conf"
export const serverKeyFile = "server.key"
export const serverCertificateFile = "server.crt"

/** What we write before the base backup, which has to survive when PGDATA is cleaned between tries. */
export const keptFiles: ReadonlySet<string> = new Set([confFile, serverKeyFile, serverCertificateFile])

/** Line of `pg_hba.conf` that lets external connections in by password; SCRAM verifiers work with it too. */
export const externalConnectionsLine = "host\tall\t\tall\t\tall\t\tmd5"

/** The spec cannot be put into a configuration file. */
export class PostgresConfError extends Data.TaggedError("PostgresConfError")<{ readonly message: string }> {}

export interface ConfInput {
  readonly spec: ComputeSpec
  readonly privilegedRoleName: string
  readonly internalHttpPort: number
  /** Postgres serves TLS: configured, and the feature is on. */
  readonly tls: boolean
  /** The kernel refuses to overcommit memory (`vm.overcommit_memory` is 2). */
  readonly overcommitIsStrict: boolean
  /** Lakebase mode, with the port that Postgres listens on. */
  readonly lakebase?: { readonly port: number } | undefined
  readonly platform: "linux" | "darwin"
}

/** A value in single quotes. */
const quote = (text: string): string => `'${text.replaceAll("'", "''").replaceAll("\\", "\\\\")}'`

const settingLine = ({ name, value, vartype }: GenericOption): string => {
  if (value === undefined || value === null) return name
  return `${name} = ${vartype === "string" ? quote(value) : value}`
}

const pageserverLines = (spec: ComputeSpec): Result.Result<ReadonlyArray<string>, PostgresConfError> => {
  const info = spec.pageserver_connection_info
  if (info !== undefined && info !== null) {
    // The extension wants the stripe size before the addresses.
    const stripe =
      typeof info.stripe_size === "number"
        ? ["# from compute spec's pageserver_connection_info.stripe_size field", `neon.stripe_size=${info.stripe_size}`]
        : []
    return Result.mapBoth(PageserverConnection.settingValue(info), {
      onFailure: ({ message }) => new PostgresConfError({ message }),
      onSuccess: (value) =>
        value === undefined
          ? [...stripe, "# no neon.pageserver_connstring"]
          : [
              ...stripe,
              "# derived from compute spec's pageserver_connection_info field",
              `neon.pageserver_connstring=${quote(value)}`
            ]
    })
  }
  const { pageserver_connstring, shard_stripe_size } = spec
  return Result.succeed([
    ...(typeof shard_stripe_size === "number"
      ? ["# from compute spec's shard_stripe_size field", `neon.stripe_size=${shard_stripe_size}`]
      : []),
    ...(typeof pageserver_connstring === "string"
      ? [
          "# from compute spec's pageserver_connstring field",
          `neon.pageserver_connstring=${quote(pageserver_connstring)}`
        ]
      : [])
  ])
}

const safekeeperLines = (spec: ComputeSpec): ReadonlyArray<string> => {
  if (spec.safekeeper_connstrings.length === 0) return []
  const generation = spec.safekeepers_generation ?? undefined
  const prefix = generation === undefined ? "" : `g#${generation}:`
  return [`neon.safekeepers=${quote(prefix + spec.safekeeper_connstrings.join(","))}`]
}

const idLines = (spec: ComputeSpec): ReadonlyArray<string> =>
  (["tenant_id", "timeline_id", "project_id", "branch_id", "endpoint_id"] as const).flatMap((name) => {
    const value = spec[name] ?? undefined
    return value === undefined ? [] : [`neon.${name}=${quote(value)}`]
  })

const modeLines = (mode: ComputeMode): ReadonlyArray<string> => {
  switch (mode._tag) {
    case "Primary":
      return ["neon.compute_mode=primary"]
    case "Replica":
      return ["neon.compute_mode=replica", "hot_standby=on"]
    case "Static":
      return ["neon.compute_mode=static", "hot_standby=on", `recovery_target_lsn='${Lsn.format(mode.lsn)}'`]
  }
}

const settingsLines = (spec: ComputeSpec): ReadonlyArray<string> => {
  const settings = spec.cluster.settings ?? undefined
  if (settings === undefined) return []
  return ["# Managed by compute_ctl: begin", settings.map(settingLine).join("\n"), "# Managed by compute_ctl: end"]
}

/** Libraries of the settings with what auditing needs. A library counts as there when its name occurs anywhere. */
const preloadLine = (spec: ComputeSpec, needed: ReadonlyArray<string>): string => {
  const wanted = findSetting(spec, "shared_preload_libraries") ?? "neon"
  const missing = needed.filter((library) => !wanted.includes(library))
  return `shared_preload_libraries='${[wanted, ...missing].join(",")}'`
}

const complianceLines = (spec: ComputeSpec, parameters: "on" | "off", log: string): ReadonlyArray<string> => [
  "# Managed by compute_ctl compliance audit settings: begin",
  `pgaudit.log_parameter=${parameters}`,
  `pgaudit.log='${log}'`,
  "pgaudit.log_catalog=off",
  "pgaudit.log_rotation_age=5",
  preloadLine(spec, ["pgaudit", "pgauditlogtofile"]),
  "# Managed by compute_ctl compliance audit settings: end"
]

const auditLines = (spec: ComputeSpec): ReadonlyArray<string> => {
  switch (spec.audit_log_level) {
    case "Disabled":
      return []
    case "Log":
    case "Base":
      return [
        "# Managed by compute_ctl base audit settings: start",
        "pgaudit.log='ddl,role'",
        "pgaudit.log_catalog=off",
        preloadLine(spec, ["pgaudit"]),
        "# Managed by compute_ctl base audit settings: end"
      ]
    case "Hipaa":
    case "Extended":
      return complianceLines(spec, "off", "all, -misc")
    case "Full":
      return complianceLines(spec, "on", "all")
  }
}

const lakebaseLines = (spec: ComputeSpec, port: number): ReadonlyArray<string> => {
  const databricks = spec.databricks_settings ?? undefined
  return [
    `port = ${port}`,
    "# Databricks settings start",
    ...(databricks === undefined
      ? []
      : [
          `ssl_ca_file = '${databricks.pg_compute_tls_settings.ca_file}'`,
          `databricks.workspace_url = '${databricks.databricks_workspace_host}'`,
          "databricks.enable_databricks_identity_login = true",
          "databricks.enable_sql_restrictions = true",
          ""
        ]),
    "# Databricks settings end"
  ]
}

/** The whole of `postgresql.conf`. Fails when the map of shards has holes. */
export const render = (input: ConfInput): Result.Result<string, PostgresConfError> => {
  const { lakebase, spec } = input
  const locale = input.platform === "darwin" ? "C" : "C.UTF-8"
  const userConf = spec.cluster.postgresql_conf ?? undefined
  return Result.map(pageserverLines(spec), (pageserver) =>
    [
      ...(userConf === undefined ? [] : [userConf]),
      "# Neon storage settings",
      "",
      ...pageserver,
      ...safekeeperLines(spec),
      ...idLines(spec),
      ...(input.tls
        ? ["ssl = on", `ssl_cert_file = '${serverCertificateFile}'`, `ssl_key_file = '${serverKeyFile}'`]
        : []),
      ...["lc_messages", "lc_monetary", "lc_time", "lc_numeric"].map((name) => `${name}='${locale}'`),
      ...modeLines(spec.mode),
      ...(input.platform === "linux" && input.overcommitIsStrict ? ["dynamic_shared_memory_type = mmap"] : []),
      `neon.privileged_role_name=${quote(input.privilegedRoleName)}`,
      ...settingsLines(spec),
      ...auditLines(spec),
      `neon.extension_server_port=${input.internalHttpPort}`,
      `neon.disable_logical_replication_subscribers=${spec.drop_subscriptions_before_start}`,
      ...(typeof spec.logs_export_host === "string" ? ["log_destination='stderr,syslog'"] : []),
      ...(lakebase === undefined ? [] : lakebaseLines(spec, lakebase.port)),
      `include_if_exists = '${temporaryOverrideFile}'`,
      ""
    ].join("\n")
  )
}

/**
 * Adds a line at the end of a file's text, unless it has it already (undefined). The new end has no line end, as Neon
 * writes it: text that ended in one gets an empty line in between.
 */
export const appendLine = (content: string, line: string): string | undefined => {
  if (content === "") return line
  return content.split(/\r?\n/u).includes(line) ? undefined : `${content}\n${line}`
}
