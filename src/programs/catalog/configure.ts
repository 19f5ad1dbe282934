/**
 * Configuration of a Postgres that runs: its catalogs, then migrations and the extension in the background.
 *
 * Only on a primary. Source: reference/startup §16, reference/catalog §3.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { LastApply } from "../../domain/ComputeState.ts"
import { atReconfigure, atStart } from "../../domain/catalog/concurrency.ts"
import { fromSpec } from "../../domain/catalog/Desired.ts"
import type { Mode } from "../../domain/catalog/plan.ts"
import { type Report, report } from "../../domain/catalog/Report.ts"
import { describeLine } from "../../domain/describe.ts"
import type { ParsedSpec } from "../../domain/ParsedSpec.ts"
import { Params } from "../../layers/Params.ts"
import type { Limits } from "../../layers/Sql.ts"
import { apply, CatalogFailed } from "./apply.ts"
import { migrateQuietly } from "./migrate.ts"
import { letSubscribersRun, withLimitsLifted } from "./override.ts"
import { upgradeNeonQuietly } from "./upgradeNeon.ts"

/** What configuring needs of the node. */
export interface Hooks {
  /** SIGHUP to the postmaster. */
  readonly reload: Effect.Effect<void>
  /** Counts a migration that failed. */
  readonly migrationFailed: (id: number) => Effect.Effect<void>
  /** What was done and what was not, for `GET /reconcile`. */
  readonly applied: (outcome: LastApply) => Effect.Effect<void>
  /** Deadlines of the apply; default: those of `Sql`. */
  readonly limits?: Partial<Limits>
  /** Enters every database, whatever is remembered of it. */
  readonly full?: boolean
}

const outcome = ({ results: _, ...made }: Report, error?: string): LastApply => ({ ...made, error })

const modeOf = ({ full = false }: Hooks): Mode => (full ? "full" : "incremental")

const applySpec = Effect.fn("apply_config")(function* (
  { spec, timelineId }: ParsedSpec,
  mode: "start" | "reconfigure",
  hooks: Hooks
) {
  const params = yield* Params
  const desired = yield* Effect.fromResult(
    fromSpec(spec, { privilegedRole: params.privilegedRoleName, lakebase: params.lakebaseMode, timelineId })
  )
  const made = yield* apply(desired, {
    mode: modeOf(hooks),
    concurrency: mode === "start" ? atStart(spec) : atReconfigure(spec),
    limits: hooks.limits ?? {}
  })
  yield* letSubscribersRun
  yield* Effect.logInfo(`finished reconfiguration of compute node for operation ${spec.operation_uuid ?? "unknown"}`)
  return made
})

const applyRemembered = Effect.fnUntraced(function* (spec: ParsedSpec, mode: "start" | "reconfigure", hooks: Hooks) {
  const startedAt = yield* Clock.currentTimeMillis
  yield* applySpec(spec, mode, hooks).pipe(
    withLimitsLifted(hooks.reload),
    Effect.mapError((error) =>
      error._tag === "CatalogFailed"
        ? error
        : new CatalogFailed({
            message:
              error._tag === "InvalidCatalog"
                ? error.message
                : "the configuration of Postgres could not be changed for the work on the catalogs",
            report: undefined,
            cause: error._tag === "InvalidCatalog" ? undefined : error
          })
    ),
    Effect.tap((made) => hooks.applied(outcome(made))),
    Effect.tapError((error) =>
      Effect.gen(function* () {
        const millis = (yield* Clock.currentTimeMillis) - startedAt
        const nothing = report({ mode: modeOf(hooks), startedAt, millis, warnings: [] }, [])
        yield* hooks.applied(outcome(error.report ?? nothing, describeLine(error)))
      })
    )
  )
})

/**
 * Makes a running primary agree with its spec. At the start migrations and the upgrade of the extension go on in the
 * Scope. Fails with `CatalogFailed`.
 */
export const configureAsPrimary = Effect.fnUntraced(function* (
  spec: ParsedSpec,
  mode: "start" | "reconfigure",
  hooks: Hooks
) {
  const { privilegedRoleName } = yield* Params
  if (spec.spec.mode._tag !== "Primary") return
  const skip = spec.spec.skip_pg_catalog_updates
  if (!skip) yield* applyRemembered(spec, mode, hooks)
  if (mode === "start") {
    if (!skip) yield* Effect.forkScoped(migrateQuietly(privilegedRoleName, hooks.migrationFailed))
    yield* Effect.forkScoped(upgradeNeonQuietly)
  }
})
