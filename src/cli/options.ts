/**
 * Everything that can be said on the command line and in the environment.
 *
 * Source: reference/startup §2–§3; new here: `--spec-path`, `--run-as`, `--internal-http-host`, `--external-http-host`,
 * `--version`, `--enable-failpoints` and the commands. Those that ask a running node: operator/options.ts.
 */
import { optionTable } from "./OptionSpec.ts"
import { operatorCommands } from "./operator/options.ts"
import { helpOption } from "./shared.ts"

const privilegedRoleOption = {
  name: "privileged-role-name",
  value: "ROLE",
  default: "neon_superuser",
  help: "Role that is granted to the users' roles in the place of superuser"
} as const

/** Options of the node itself: `compute_ctl [OPTIONS]`. */
export const nodeOptions = optionTable([
  {
    name: "pgdata",
    short: "D",
    value: "DATADIR",
    required: true,
    help: "Data directory; made anew at every start"
  },
  {
    name: "connstr",
    short: "C",
    value: "DATABASE_URL",
    required: true,
    help: "URL by which this process connects to its Postgres, as a superuser"
  },
  {
    name: "compute-id",
    short: "i",
    value: "COMPUTE_ID",
    required: { unless: "spec-path" },
    help: "Name of this node: the control plane is asked for it, and tokens must carry it. With a spec file it may be missing and is then taken from the spec"
  },
  {
    name: "config",
    short: "c",
    value: "CONFIG",
    conflicts: ["control-plane-uri", "spec-path"],
    help: "JSON file with the spec and the settings of this process; read again at each refresh. Give this one, a control plane or a spec file"
  },
  {
    name: "control-plane-uri",
    short: "p",
    value: "CONTROL_PLANE_API_BASE_URL",
    conflicts: ["spec-path"],
    help: "Base URL of the control plane to fetch the configuration from"
  },
  {
    name: "spec-path",
    short: "S",
    value: "FILE",
    help: "JSON file with a bare spec"
  },
  {
    name: "pgbin",
    short: "b",
    env: "POSTGRES_PATH",
    value: "PGBIN",
    default: "postgres",
    help: "The postgres program; a bare name is looked up in PATH. Its tools are taken from the same directory"
  },
  {
    name: "run-as",
    value: "USER",
    help: "User that Postgres runs as and that owns its files, where this process is root; otherwise without effect. Without it: postgres, else nobody"
  },
  {
    name: "external-http-port",
    value: "PORT",
    default: "3080",
    help: "Port of the HTTP server for the control plane; wants tokens"
  },
  {
    name: "external-http-host",
    value: "HOST",
    help: "Address on which that server listens. Without it: every interface"
  },
  {
    name: "internal-http-port",
    value: "PORT",
    default: "3081",
    help: "Port of the HTTP server for Postgres on this machine; wants no tokens"
  },
  {
    name: "internal-http-host",
    value: "HOST",
    default: "localhost",
    help: "Address on which that server listens; localhost: both loopback addresses"
  },
  {
    name: "http-port",
    value: "PORT",
    conflicts: ["external-http-port", "internal-http-port"],
    help: "In lakebase mode the external port, with the internal one next to it; otherwise without effect"
  },
  {
    name: "remote-ext-base-url",
    short: "r",
    value: "URL",
    help: "Where archives of Postgres extensions are downloaded from"
  },
  privilegedRoleOption,
  {
    name: "reconcile",
    value: "incremental|full",
    default: "incremental",
    help: "full: every apply looks into every database. Without it: into those that changed since the last one"
  },
  {
    name: "installed-extensions-collection-interval",
    value: "SECONDS",
    default: "3600",
    help: "Pause between two inventories of installed extensions, until the spec says otherwise"
  },
  {
    name: "lakebase-mode",
    value: "true|false",
    default: "false",
    help: "Answers and environment as Databricks' Lakebase wants them"
  },
  {
    name: "pg-init-timeout",
    value: "SECONDS",
    help: "In lakebase mode: time for a start before the process gives up. Without it: 60"
  },
  {
    name: "dev",
    help: "Leave pgbouncer and local_proxy alone"
  },
  {
    name: "enable-failpoints",
    help: "For tests: named places can be made to fail, wait or exit, by POST /failpoints and the variable FAILPOINTS"
  },
  {
    name: "cgroup",
    value: "CGROUP",
    default: "neon-postgres",
    help: "Control group that the VM monitor watches"
  },
  {
    name: "filecache-connstr",
    value: "CONNSTR",
    default: "host=localhost port=5432 dbname=postgres user=cloud_admin sslmode=disable application_name=vm-monitor",
    help: "How the VM monitor connects to Postgres to size the local file cache"
  },
  {
    name: "vm-monitor-addr",
    value: "HOST:PORT",
    default: "0.0.0.0:10301",
    help: "Address on which the VM monitor listens"
  },
  {
    name: "resize-swap-on-bind",
    help: "Resize swap when the spec says so"
  },
  {
    name: "set-disk-quota-for-fs",
    value: "MOUNT_POINT",
    help: "File system whose quota is set when the spec says so"
  },
  helpOption,
  { name: "version", short: "V", help: "Print version and build tag", ends: true }
])

const localDataDir = "compute-ctl/local in XDG_DATA_HOME or ~/.local/share, for root /var/lib/compute-ctl/local"

/** Options of `compute_ctl local`. */
export const localOptions = optionTable([
  {
    name: "data-dir",
    value: "DIR",
    help: `Keeps the databases between runs. Without it: ${localDataDir}`
  },
  {
    name: "pg-version",
    value: "14..18",
    help: "Major version of an installed PostgreSQL to run. Without it: the one that comes with the package"
  },
  {
    name: "pgbin",
    short: "b",
    env: "POSTGRES_PATH",
    value: "PGBIN",
    conflicts: ["pg-version"],
    help: "The postgres program to run in its place"
  },
  {
    name: "pageservers",
    value: "1..16",
    default: "2",
    help: "Number of pageservers; one of them serves the databases"
  },
  { name: "port", value: "PORT", default: "55432", help: "Port of Postgres" },
  { name: "http-port", value: "PORT", default: "3080", help: "Port of the HTTP server that wants tokens" },
  {
    name: "internal-http-port",
    value: "PORT",
    default: "3081",
    help: "Port of the HTTP server that wants no tokens"
  },
  {
    name: "run-as",
    value: "USER",
    help: "User that Postgres runs as, where this process is root. Without it: postgres, else nobody"
  },
  helpOption
])

/** Options of `compute_ctl local move`. */
export const localMoveOptions = optionTable([
  { name: "data-dir", value: "DIR", help: `That of the local mode that runs. Without it: ${localDataDir}` },
  { name: "to", value: "N", help: "Number of the pageserver that is to serve the databases. Without it: the next one" },
  helpOption
])

const documentOption = {
  name: "config",
  short: "c",
  value: "FILE",
  required: true,
  help: "JSON file with the spec, as a node takes it by its own option of that name"
} as const

/** Options of `compute_ctl plan`. */
export const planOptions = optionTable([
  documentOption,
  {
    name: "connstr",
    short: "C",
    value: "URL",
    required: true,
    help: "URL of the server to compare with; as a superuser. Nothing is changed there"
  },
  privilegedRoleOption,
  {
    name: "lakebase-mode",
    value: "true|false",
    default: "false",
    help: "Plan for a node in lakebase mode"
  },
  { name: "full", help: "Look into every database, whatever is remembered of it" },
  { name: "json", help: "Print one JSON document: operations and warnings" },
  helpOption
])

/** Options of `compute_ctl validate`. */
export const validateOptions = optionTable([
  documentOption,
  { name: "json", help: "Print one JSON document: valid, and what is wrong in which field" },
  helpOption
])

/** Options of `compute_ctl fsm`. */
export const fsmOptions = optionTable([{ name: "json", help: "Print one JSON document in its place" }, helpOption])

/** What can stand in the first place. */
export const commands = [
  { name: "local", help: "Run Postgres on this machine with emulated storage: nothing else is needed" },
  { name: "plan", help: "Show the SQL that would bring the roles, databases and grants of a server up to a spec" },
  { name: "validate", help: "Check a configuration file, without a server" },
  { name: "fsm", help: "Print the state machine of a node as a Mermaid diagram" },
  ...operatorCommands,
  { name: "help", help: "Print help; `help local` for the help of that command" }
] as const

/** Variables that are read, beside those of the options. */
export const variables = [
  { name: "NEON_CONTROL_PLANE_TOKEN", help: "Token with which the control plane is asked" },
  { name: "RUST_LOG", help: "Filter of log lines, as `info` or `info,http=debug`" },
  {
    name: "FAILPOINTS",
    help: "What failpoints do from the start, where they are enabled: `name=actions;name=actions`"
  },
  { name: "OTEL_SDK_DISABLED", help: "`true`: no traces are sent" },
  {
    name: "OTEL_EXPORTER_OTLP_ENDPOINT",
    help: "Collector of traces (OTLP over HTTP); other OTEL_* variables count too"
  },
  { name: "TRACEPARENT", help: "W3C context that the trace of the start continues; with TRACESTATE" },
  { name: "AUTOSCALING", help: "Present, even if empty: Postgres runs in the control group neon-postgres" },
  { name: "INSTANCE_ID", help: "In lakebase mode: id of the instance; the external server then wants no tokens" },
  {
    name: "NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES",
    help: "How often a failed base backup is tried again; 10 without it"
  }
] as const
