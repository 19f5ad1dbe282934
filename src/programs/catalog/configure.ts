/**
 * Configuration of a Postgres that runs: its catalogs, then migrations and the extension in the background.
 *
 * Only on a primary. Where nothing changed it takes one connection and one statement. Source: reference/startup §16,
 * reference/catalog §3.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { LastApply } from "../../domain/ComputeState.ts"
import { atReconfigure, atStart } from "../../domain/catalog/concurrency.ts"
import { fromSpec } from "../../domain/catalog/Desired.ts"
import { lastMigration } from "../../domain/catalog/migrations.ts"
import type { Mode } from "../../domain/catalog/plan.ts"
import { type Report, report } from "../../domain/catalog/Report.ts"
import { describeLine } from "../../domain/describe.ts"
import type { ParsedSpec } from "../../domain/ParsedSpec.ts"
import { Params } from "../../layers/Params.ts"
import type { Limits } from "../../layers/Sql.ts"
import { type Applied, applyIn, CatalogFailed, openSystem } from "./apply.ts"
import { migrateQuietly } from "./migrate.ts"
import { configuration, type Reloading } from "./override.ts"
import { upgradeNeonQuietly } from "./upgradeNeon.ts"

/** What configuring needs of the node. */
export interface Hooks extends Reloading {
  /** Counts a migration that failed. */
  readonly migrationFailed: (id: number) => Effect.Effect<void>
  /** Counts a statement that its time-out ended. */
  readonly statementTimedOut: Effect.Effect<void>
  /** What was done and what was not, for `GET /reconcile`. */
  readonly applied: (outcome: LastApply) => Effect.Effect<void>
  /** Deadlines of the apply; default: those of `Sql`. */
  readonly limits?: Partial<Limits>
  /** Enters every database, whatever is remembered of it; so does a node that was started with `--reconcile full`. */
  readonly full?: boolean
}

const outcome = ({ results: _, ...made }: Report, error?: string): LastApply => ({ ...made, error })

/** SQLSTATE of a statement that was ended by its time-out. */
const timedOut = "57014"

const countTimeouts = (hooks: Hooks, error: CatalogFailed) => {
  const cause = error.cause instanceof Error && "code" in error.cause ? error.cause.code : undefined
  const states = [cause, ...(error.report?.failures.map(({ sqlstate }) => sqlstate) ?? [])]
  return Effect.forEach(
    states.filter((state) => state === timedOut),
    () => hooks.statementTimedOut,
    { discard: true }
  )
}

/** Lakebase wants the statements of a start to give up earlier. */
const lakebaseStart = Duration.minutes(2)

const applySpec = Effect.fn("apply_config")(function* (
  { spec, timelineId }: ParsedSpec,
  mode: "start" | "reconfigure",
  reconcile: Mode,
  hooks: Hooks
) {
  const params = yield* Params
  const desired = yield* Effect.fromResult(
    fromSpec(spec, { privilegedRole: params.privilegedRoleName, lakebase: params.lakebaseMode, timelineId })
  )
  const limits = { ...(params.lakebaseMode && mode === "start" ? { statement: lakebaseStart } : {}), ...hooks.limits }
  const system = yield* openSystem(limits)
  const { letSubscribersRun, liftLimits } = yield* configuration(hooks, system)
  const made = yield* applyIn(system, desired, {
    mode: reconcile,
    concurrency: mode === "start" ? atStart(spec) : atReconfigure(spec),
    limits,
    liftLimits
  })
  yield* letSubscribersRun
  yield* Effect.logInfo(`finished reconfiguration of compute node for operation ${spec.operation_uuid ?? "unknown"}`)
  return made
}, Effect.scoped)

const applyRemembered = Effect.fnUntraced(function* (spec: ParsedSpec, mode: "start" | "reconfigure", hooks: Hooks) {
  const startedAt = yield* Clock.currentTimeMillis
  const params = yield* Params
  const reconcile = hooks.full === true ? "full" : params.reconcile
  return yield* applySpec(spec, mode, reconcile, hooks).pipe(
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
    Effect.tap(({ migrationId: _, ...made }: Applied) => hooks.applied(outcome(made))),
    Effect.tapError((error) =>
      Effect.gen(function* () {
        const millis = (yield* Clock.currentTimeMillis) - startedAt
        const nothing = report({ mode: reconcile, startedAt, millis, warnings: [] }, [])
        yield* countTimeouts(hooks, error)
        yield* hooks.applied(outcome(error.report ?? nothing, describeLine(error)))
      })
    )
  )
})

/**
 * Makes a running primary agree with its spec. At the start, migrations that have not run yet go on in the Scope; so does
 * the upgrade of the extension where the catalogs are not looked at. Fails with `CatalogFailed`.
 */
export const configureAsPrimary = Effect.fnUntraced(function* (
  spec: ParsedSpec,
  mode: "start" | "reconfigure",
  hooks: Hooks
) {
  const { privilegedRoleName } = yield* Params
  if (spec.spec.mode._tag !== "Primary") return
  if (spec.spec.skip_pg_catalog_updates) {
    if (mode === "start") yield* Effect.forkScoped(upgradeNeonQuietly)
    return
  }
  const { migrationId = 0 } = yield* applyRemembered(spec, mode, hooks)
  if (mode === "start" && migrationId < lastMigration) {
    yield* Effect.forkScoped(migrateQuietly(privilegedRoleName, hooks.migrationFailed))
  }
})
