/**
 * From a spec to a running Postgres: the stages in their order.
 *
 * Source: reference/startup §9.
 */
import * as Effect from "effect/Effect"
import type { ParsedSpec } from "../../domain/ParsedSpec.ts"
import { ComputeNode } from "../../layers/ComputeNode.ts"
import { DataDirectory } from "../../layers/DataDirectory.ts"
import { Metrics } from "../../layers/Metrics.ts"
import { Params } from "../../layers/Params.ts"
import { Postgres } from "../../layers/Postgres.ts"
import { reloading } from "../reloading.ts"
import { tellSideServices } from "../sideServices.ts"
import { preparePgdata } from "./preparePgdata.ts"
import { stage, timedMillis } from "./stages.ts"

/** Members of the document whose machinery is not there yet: the start goes on without it and says so. */
const notYet = (parsed: ParsedSpec, tls: boolean): ReadonlyArray<string> => {
  const { spec } = parsed
  const asked: ReadonlyArray<readonly [string, boolean]> = [
    ["swap_size_bytes", present(spec.swap_size_bytes)],
    ["disk_quota_bytes", present(spec.disk_quota_bytes)],
    ["remote_extensions", present(spec.remote_extensions)],
    ["logs_export_host", present(spec.logs_export_host)],
    ["databricks_settings", present(spec.databricks_settings)],
    ["autoprewarm", spec.autoprewarm],
    ["offload_lfc_interval_seconds", present(spec.offload_lfc_interval_seconds)],
    ["audit_log_level", !["Disabled", "Base", "Log"].includes(spec.audit_log_level)],
    ["mode.Static (LSN lease)", spec.mode._tag === "Static"],
    ["compute_ctl_config.tls", tls]
  ]
  return asked.filter(([, wanted]) => wanted).map(([name]) => name)
}

const present = (value: unknown): boolean => value !== undefined && value !== null

/** Variables that Postgres gets in lakebase mode (reference/startup §3). */
const lakebaseEnv = (spec: ParsedSpec) =>
  Effect.gen(function* () {
    const { computeId, instanceId, lakebaseMode } = yield* Params
    if (!lakebaseMode) return {}
    return {
      DATABRICKS_ENDPOINT_ID: instanceId ?? (computeId ?? "").split("/", 1)[0] ?? "",
      DATABRICKS_WORKSPACE_HOST: spec.spec.databricks_settings?.databricks_workspace_host ?? ""
    }
  })

/** Runs the stages. The postmaster belongs to the Scope: it lives until that is closed. */
export const startCompute = (spec: ParsedSpec, options: { readonly tls: boolean }) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const postgres = yield* Postgres
    const state = yield* node.state
    const { spec: document } = spec
    yield* Effect.logInfo(
      `starting compute for project ${document.cluster.cluster_id ?? "None"}, operation ${document.operation_uuid ?? "None"}, ` +
        `tenant ${spec.tenantId}, timeline ${spec.timelineId}, project ${document.project_id ?? "None"}, ` +
        `branch ${document.branch_id ?? "None"}, endpoint ${document.endpoint_id ?? "None"}, ` +
        `features [${document.features.join(", ")}], spec.remote_extensions ${present(document.remote_extensions) ? "Some" : "None"}`
    )
    const ignored = notYet(spec, options.tls)
    if (ignored.length > 0) {
      yield* Effect.logWarning(`starting without what this version does not do yet: ${ignored.join(", ")}`)
    }
    yield* tellSideServices(spec)
    yield* preparePgdata(spec)
    const directory = yield* DataDirectory
    const confLoaded = yield* directory.loading
    // The machinery of the catalogs is loaded while Postgres starts.
    const [[startMillis, postmaster], { configureAsPrimary }] = yield* Effect.all(
      [
        timedMillis(
          postgres.start({ token: spec.storageAuthToken, env: yield* lakebaseEnv(spec) }).pipe(stage("start_postgres"))
        ),
        Effect.promise(() => import("../catalog/configure.ts"))
      ],
      { concurrency: "unbounded" }
    )
    yield* confLoaded
    yield* Effect.logInfo("PostgreSQL is now running, continuing to configure it")
    const metrics = yield* Metrics
    const [configMillis] = yield* timedMillis(
      configureAsPrimary(spec, "start", {
        ...(yield* reloading),
        migrationFailed: metrics.migrationFailed,
        statementTimedOut: metrics.statementTimedOut,
        applied: (lastApply) => node.update((state) => ({ ...state, lastApply }))
      }).pipe(stage("configure_as_primary"))
    )
    yield* node.recordMetrics({
      start_postgres_ms: startMillis,
      config_ms: configMillis,
      total_startup_ms: Math.max(0, Date.now() - state.startTime)
    })
    return postmaster
  }).pipe(stage("start_compute"))
