/** Operations inside the databases. Source: reference/catalog §8.8, §8.9, §11. */
import type { Desired } from "./Desired.ts"
import { contentsObject, databaseObject, type Operation, operation, roleObject } from "./Operation.ts"
import type { Contents } from "./Snapshot.ts"

/** A database that has to be entered, and what for. */
export interface Visit {
  readonly database: string
  /** Its name before the first operation. */
  readonly liveName: string
  readonly owner: string
  /** It does not exist yet. */
  readonly isNew: boolean
  /** Roles to be deleted that have something in it. */
  readonly disown: ReadonlyArray<string>
  readonly dropSubscriptions: boolean
  /** What is remembered once schema and privileges are as they should be; undefined: they are known to be. */
  readonly fingerprint: string | undefined
  /** It is remembered already. */
  readonly isRemembered: boolean
}

/** What a visit has to do, given the inside of the database. `admin` is the role that does it. */
export const planContents = (
  desired: Desired,
  visit: Visit,
  contents: Contents,
  admin: string
): ReadonlyArray<Operation> => {
  const { database, owner } = visit
  const { privilegedRole } = desired
  const needs = [databaseObject(database), roleObject(owner)]
  const at = { stage: "databases", database, needs } as const
  const operations = visit.disown.map((role) =>
    operation({
      ...at,
      change: { _tag: "DisownRole", role, newOwner: owner },
      reason: `delta_operations: delete_role, and something depends on ${roleObject(role)}`,
      needs: [...needs, roleObject(role)]
    })
  )
  if (visit.fingerprint !== undefined && contents.publicOwner !== undefined) {
    const { publicOwner } = contents
    if ((publicOwner === admin || publicOwner === "zenith_admin") && publicOwner !== owner) {
      operations.push(
        operation({
          ...at,
          change: { _tag: "OwnPublicSchema", database, owner },
          reason: `schema public is owned by ${roleObject(publicOwner)}`
        })
      )
    }
    if (contents.webAccessLacksCreate) {
      operations.push(
        operation({
          ...at,
          change: { _tag: "GrantWebAccess", database },
          reason: "role web_access exists and cannot create in schema public"
        })
      )
    }
    const defaults = [
      ["TABLES", contents.defaultTables],
      ["SEQUENCES", contents.defaultSequences]
    ] as const
    for (const [objects, hold] of defaults) {
      if (hold) continue
      operations.push(
        operation({
          ...at,
          change: { _tag: "DefaultPrivileges", database, objects, privilegedRole },
          reason: `${roleObject(privilegedRole)} has no default privileges on ${objects.toLowerCase()} in schema public`,
          needs: [...needs, roleObject(privilegedRole)]
        })
      )
    }
  }
  if (visit.dropSubscriptions) {
    operations.push(
      operation({
        ...at,
        change: { _tag: "DropSubscriptions", database },
        reason: "drop_subscriptions_before_start, and it has inherited some",
        needs: [...needs, contentsObject(database)]
      })
    )
  }
  return operations
}
