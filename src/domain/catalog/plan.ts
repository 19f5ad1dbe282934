/**
 * From what is and what should be to the operations in between.
 *
 * Pure, total, deterministic. Nothing is planned for what already holds; objects that neither the document nor its delta
 * operations name are left alone, except databases whose drop was interrupted. Source: reference/catalog §6, decisions K1–K7.
 */
import type { Desired } from "./Desired.ts"
import { Draft } from "./Draft.ts"
import { lastMigration } from "./migrations.ts"
import type { Operation } from "./Operation.ts"
import { planContents, type Visit } from "./planContents.ts"
import { planDatabaseDeltas, planDatabases, planInvalidDatabases } from "./planDatabases.ts"
import * as Databricks from "./planDatabricks.ts"
import * as Roles from "./planRoles.ts"
import * as Service from "./planService.ts"
import { type Contents, freshContents, type Snapshot } from "./Snapshot.ts"
import { fingerprint } from "./stateTable.ts"

/** `full` enters every database, whatever is remembered of it. */
export type Mode = "incremental" | "full"

export interface Plan {
  /** In their order. Those inside databases that exist and were not read are missing. */
  readonly operations: ReadonlyArray<Operation>
  /** Databases that have to be entered. */
  readonly visits: ReadonlyArray<Visit>
  readonly warnings: ReadonlyArray<string>
}

const inheritsSubscriptions = ({ desired, snapshot }: Draft): boolean =>
  desired.dropSubscriptions && snapshot.subscriptionsDroppedFor !== desired.timelineId

const planVisits = (draft: Draft, mode: Mode): ReadonlyArray<Visit> => {
  const { desired, snapshot } = draft
  const dropsSubscriptions = inheritsSubscriptions(draft)
  const reowned = new Set(
    draft.operations.flatMap(({ change }) => (change._tag === "AlterDatabaseOwner" ? [change.database] : []))
  )
  const visits: Array<Visit> = []
  for (const database of desired.databases) {
    const live = draft.databases.get(database.name)
    if (live === undefined) continue
    const { state } = live
    if (!state.allowConnections) {
      draft.warnings.push(
        `database ${JSON.stringify(database.name)} does not allow connections, its contents are left alone`
      )
      continue
    }
    const wanted = fingerprint(desired, database, snapshot, lastMigration)
    const { mark } = state
    const isRemembered =
      !reowned.has(database.name) && mark?.timelineId === desired.timelineId && mark.fingerprint === wanted
    const known = mode === "incremental" && isRemembered
    const disown =
      database.name === snapshot.systemDatabase ? [] : Roles.disownedIn(draft, state.oid || undefined, database.owner)
    const visit: Visit = {
      database: database.name,
      liveName: live.liveName,
      owner: database.owner,
      isNew: state.oid === 0,
      disown,
      dropSubscriptions: dropsSubscriptions && state.subscriptions.length > 0,
      fingerprint: known ? undefined : wanted,
      isRemembered
    }
    if (!known || disown.length > 0 || visit.dropSubscriptions) visits.push(visit)
  }
  return visits
}

/**
 * The plan. `contents` holds what was read inside databases; one that does not exist yet is taken for a copy of an
 * untouched template.
 */
export const plan = (
  snapshot: Snapshot,
  desired: Desired,
  mode: Mode,
  contents: ReadonlyMap<string, Contents> = new Map()
): Plan => {
  const draft = new Draft(snapshot, desired)
  Service.planServiceSchemas(draft)
  Roles.planPrivilegedRole(draft)
  Databricks.planDatabricksRoles(draft)
  planInvalidDatabases(draft)
  Roles.planRoleRenames(draft)
  Roles.planRoles(draft)
  planDatabaseDeltas(draft)
  planDatabases(draft)
  Roles.planDisownShared(draft)
  const visits = planVisits(draft, mode)
  for (const visit of visits) {
    const read = visit.isNew ? freshContents(snapshot.serverVersion, snapshot.admin) : contents.get(visit.database)
    if (read !== undefined) draft.operations.push(...planContents(desired, visit, read, snapshot.admin))
  }
  Service.planExtensions(draft)
  Databricks.planDatabricksAuth(draft)
  Service.planHealthCheck(draft)
  Roles.planRoleDrops(draft)
  Databricks.planDatabricksMonitor(draft)
  if (inheritsSubscriptions(draft)) Service.planSubscriptionsRecord(draft, visits)
  Service.planAudit(draft)
  Service.planRemember(draft, visits)
  const stages = ["before", "system", "databases", "finish"] as const
  return {
    operations: stages.flatMap((stage) => draft.operations.filter((operation) => operation.stage === stage)),
    visits,
    warnings: draft.warnings
  }
}
