/**
 * What `GET /metrics` shows.
 *
 * Families come in the order of `families`, a family without samples is left out, unlabelled ones stand at 0 from the
 * first scrape. Histogram and families behind it are ours. Source: reference/http-api §7.11.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as ComputeStatus from "../domain/ComputeStatus.ts"

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })
const gauge = (name: string, description: string) => Metric.gauge(name, { description })

/** Declared order is the order on the wire. */
export const families = {
  up: gauge("compute_ctl_up", "Whether compute_ctl is running"),
  installedExtensions: gauge(
    "compute_installed_extensions",
    "Number of databases where the version of extension is installed"
  ),
  cplaneRequests: counter(
    "compute_ctl_cplane_requests_total",
    "Total number of control plane requests made by compute_ctl by status"
  ),
  remoteExtRequests: counter(
    "compute_ctl_remote_ext_requests_total",
    "Total number of requests made by compute_ctl to download extensions from S3 proxy by status"
  ),
  dbMigrationFailed: counter("compute_ctl_db_migration_failed_total", "Total number of failed database migrations"),
  auditLogDirSize: gauge("compute_audit_log_dir_size", "Size of audit log directory in bytes"),
  currentDowntime: gauge(
    "compute_pg_current_downtime_ms",
    "Non-cumulative duration of Postgres downtime in ms; resets after successful check"
  ),
  downtime: counter("compute_pg_downtime_ms_total", "Cumulative duration of Postgres downtime in ms"),
  lfcPrewarms: counter(
    "compute_ctl_lfc_prewarms_total",
    "Total number of LFC prewarms requested by compute_ctl or autoprewarm option"
  ),
  lfcPrewarmErrors: counter("compute_ctl_lfc_prewarm_errors_total", "Total number of LFC prewarm errors"),
  lfcOffloads: counter(
    "compute_ctl_lfc_offloads_total",
    "Total number of LFC offloads requested by compute_ctl or lfc_offload_period_seconds option"
  ),
  lfcOffloadErrors: counter("compute_ctl_lfc_offload_errors_total", "Total number of LFC offload errors"),
  pagestreamErrors: counter(
    "pg_cctl_pagestream_request_errors_total",
    "Number of PageStream request errors reported by the postgres process"
  ),
  statementTimeouts: counter(
    "pg_cctl_configure_statement_timeout_errors_total",
    "Number of compute configuration errors due to Postgres statement timeouts."
  ),
  attached: gauge("pg_cctl_attached", "Compute node attached status (1 if attached)"),
  startupStage: Metric.histogram("compute_ctl_startup_stage_duration_seconds", {
    description: "Duration of each stage of the startup in seconds",
    boundaries: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]
  }),
  pendingRestart: gauge(
    "compute_ctl_pending_restart_settings",
    "Number of settings whose new value waits for a restart of Postgres"
  )
} as const

const order = new Map(Object.values(families).map((family, index) => [family.id, index]))

const rank = (block: string): number => order.get(/^# HELP (\S+)/u.exec(block)?.[1] ?? "") ?? Number.MAX_SAFE_INTEGER

/** What a node of lakebase mode is attached to. */
export interface Attachment {
  readonly computeId: string
  readonly instanceId: string
  readonly tenantId: string
  readonly timelineId: string
}

export class Metrics extends Context.Service<
  Metrics,
  {
    /** Moves the one series of `compute_ctl_up` to this status. */
    readonly setStatus: (status: ComputeStatus.ComputeStatus) => Effect.Effect<void>
    /** Moves the one series of `pg_cctl_attached` to this storage. */
    readonly setAttached: (to: Attachment) => Effect.Effect<void>
    /** Counts one request for the configuration; `httpStatus` as in `200 OK`, `unknown` without an answer. */
    readonly cplaneRequest: (httpStatus: string) => Effect.Effect<void>
    /** Counts one notification of Postgres that its pageserver looks wrong. */
    readonly pagestreamError: Effect.Effect<void>
    /** Counts one migration that failed, by its number. */
    readonly migrationFailed: (id: number) => Effect.Effect<void>
    /** Counts one statement of the work on the catalogs that its time-out ended. */
    readonly statementTimedOut: Effect.Effect<void>
    /** How many settings wait for a restart of Postgres. */
    readonly setPendingRestart: (settings: number) => Effect.Effect<void>
    readonly observeStage: (stage: string, seconds: number) => Effect.Effect<void>
    /** Prometheus text, version 0.0.4. */
    readonly render: Effect.Effect<string>
  }
>()("compute/layers/Metrics") {
  /** @param buildTag label of `compute_ctl_up` */
  static readonly layer = (buildTag: string) => Layer.sync(Metrics, () => make(buildTag))
}

const make = (buildTag: string) => {
  // A registry of its own: metrics of other parts of the process do not show, and tests do not meet.
  const registry = Context.make(Metric.MetricRegistry, new Map())
  for (const family of [families.auditLogDirSize, families.currentDowntime]) family.updateUnsafe(0, registry)
  for (const family of [
    families.downtime,
    families.lfcPrewarms,
    families.lfcPrewarmErrors,
    families.lfcOffloads,
    families.lfcOffloadErrors,
    families.pagestreamErrors,
    families.statementTimeouts
  ]) {
    family.updateUnsafe(0, registry)
  }
  const up = (status: ComputeStatus.ComputeStatus) =>
    Metric.withAttributes(families.up, { build_tag: buildTag, status: ComputeStatus.display(status) })
  const attachedTo = ({ computeId, instanceId, tenantId, timelineId }: Attachment) =>
    Metric.withAttributes(families.attached, {
      pg_compute_id: computeId,
      pg_instance_id: instanceId,
      tenant_id: tenantId,
      timeline_id: timelineId
    })
  let attached: ReturnType<typeof attachedTo> | undefined
  let current = up("empty")
  current.updateUnsafe(1, registry)

  const format = (): string =>
    PrometheusMetrics.formatUnsafe(registry)
      .split(/^(?=# HELP )/mu)
      .sort((a, b) => rank(a) - rank(b))
      .join("")

  /** Text for whoever asks before something changes. */
  let rendered: string | undefined
  const changing = (change: () => void): Effect.Effect<void> =>
    Effect.sync(() => {
      rendered = undefined
      change()
    })

  return Metrics.of({
    // Both steps in one synchronous block: at any time there is exactly one series.
    setStatus: (status) =>
      changing(() => {
        Metric.removeUnsafe(current, registry)
        current = up(status)
        current.updateUnsafe(1, registry)
      }),
    setAttached: (to) =>
      changing(() => {
        if (attached !== undefined) Metric.removeUnsafe(attached, registry)
        attached = attachedTo(to)
        attached.updateUnsafe(1, registry)
      }),
    cplaneRequest: (httpStatus) =>
      changing(() =>
        Metric.withAttributes(families.cplaneRequests, { http_status: httpStatus, rpc: "GetConfig" }).updateUnsafe(
          1,
          registry
        )
      ),
    pagestreamError: changing(() => families.pagestreamErrors.updateUnsafe(1, registry)),
    migrationFailed: (id) =>
      changing(() =>
        Metric.withAttributes(families.dbMigrationFailed, { migration_id: String(id) }).updateUnsafe(1, registry)
      ),
    statementTimedOut: changing(() => families.statementTimeouts.updateUnsafe(1, registry)),
    setPendingRestart: (settings) => changing(() => families.pendingRestart.updateUnsafe(settings, registry)),
    observeStage: (stage, seconds) =>
      changing(() => Metric.withAttributes(families.startupStage, { stage }).updateUnsafe(seconds, registry)),
    render: Effect.sync(() => (rendered ??= format()))
  })
}
