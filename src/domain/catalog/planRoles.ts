/** Operations on roles: the privileged one, renames, creation, verifiers, and deletion. Source: reference/catalog §8.1–§8.4, §8.8, §8.10. */
import type { Rename } from "./Change.ts"
import type { Draft } from "./Draft.ts"
import { databaseObject, dependentsObject, roleObject, stateObject } from "./Operation.ts"
import type { Membership, RoleAttributes } from "./Snapshot.ts"
import { deltaText } from "./stateTable.ts"

interface Held {
  readonly role: string
  readonly admin: boolean
  /** Migration that grants it; undefined: the privileged role has it from its first moment. */
  readonly migration: number | undefined
}

/** What the privileged role is a member of. */
const memberships: ReadonlyArray<Held> = [
  { role: "pg_read_all_data", admin: false, migration: undefined },
  { role: "pg_write_all_data", admin: false, migration: undefined },
  { role: "pg_create_subscription", admin: false, migration: 3 },
  { role: "pg_monitor", admin: true, migration: 4 },
  { role: "pg_signal_backend", admin: true, migration: 12 }
]

const differingClauses = (role: RoleAttributes & { readonly verifier: string | undefined }, replication: boolean) => {
  const wanted = [
    [role.superuser, false, "SUPERUSER"],
    [role.inherit, true, "INHERIT"],
    [role.createRole, true, "CREATEROLE"],
    [role.createDb, true, "CREATEDB"],
    [role.login, false, "LOGIN"],
    [role.replication, replication, "REPLICATION"],
    [role.bypassRls, true, "BYPASSRLS"]
  ] as const
  return [
    ...wanted.flatMap(([is, should, word]) => (is === should ? [] : [should ? word : `NO${word}`])),
    ...(role.connectionLimit === -1 ? [] : ["CONNECTION LIMIT -1"]),
    ...(role.validUntil === undefined ? [] : ["VALID UNTIL 'infinity'"]),
    ...(role.verifier === undefined ? [] : ["PASSWORD NULL"])
  ]
}

/** Those that it should have: a migration that has not run yet will grant its own, and older versions lack some roles. */
const stated = ({ snapshot }: Draft): ReadonlyArray<Held> =>
  memberships.filter(
    ({ migration, role }) =>
      migration === undefined || (migration <= (snapshot.migrationId ?? 0) && snapshot.roles.has(role))
  )

const grantMembership = (draft: Draft, { admin, role }: Held, reason: string): void => {
  const member = draft.desired.privilegedRole
  draft.add({
    stage: "system",
    change: { _tag: "GrantMembership", role, member, admin, options: hasOptions(draft) },
    reason,
    needs: [roleObject(member)]
  })
}

/** Memberships have options, and a row for each grantor, since version 16. */
const hasOptions = ({ snapshot }: Draft): boolean => snapshot.serverVersion >= 160000

const planMemberships = (draft: Draft): void => {
  const { desired, snapshot } = draft
  const member = desired.privilegedRole
  const object = roleObject(member)
  const options = hasOptions(draft)
  const revoke = ({ grantor, role }: Membership, adminOnly: boolean, reason: string) =>
    draft.add({
      stage: "system",
      change: { _tag: "RevokeMembership", role, member, adminOnly, grantor: options ? grantor : undefined },
      reason,
      needs: [object]
    })
  for (const wanted of stated(draft)) {
    const { admin, role } = wanted
    const held = snapshot.memberships.filter((membership) => membership.role === role)
    const isRight = (row: Membership) => row.admin === admin && row.inherit && row.set
    if (!admin) {
      for (const membership of held.filter((row) => !isRight(row))) {
        revoke(membership, !options && membership.admin, `${object} holds ${role} with other options than stated`)
      }
    }
    // Before version 16 taking the admin option back leaves the membership.
    if (held.some((row) => isRight(row) || (!options && !admin))) continue
    const what = held.length > 0 && admin ? `does not hold ${role} as stated` : `is not a member of ${role}`
    grantMembership(draft, wanted, `${object} ${what}`)
  }
  const mayHold = new Set(memberships.map(({ role }) => role))
  for (const membership of snapshot.memberships) {
    const { role } = membership
    if (mayHold.has(role)) continue
    if (!role.startsWith("pg_") && snapshot.roles.get(role)?.superuser !== true) continue
    revoke(membership, false, `${object} must not be a member of ${roleObject(role)}`)
  }
}

export const planPrivilegedRole = (draft: Draft): void => {
  const { desired, snapshot } = draft
  const role = desired.privilegedRole
  const state = snapshot.roles.get(role)
  if (state === undefined) {
    draft.roles.set(role, { verifier: undefined, dependents: undefined })
    draft.add({
      stage: "system",
      change: { _tag: "CreatePrivilegedRole", role, replication: desired.privilegedReplication },
      reason: "the privileged role does not exist"
    })
    for (const held of stated(draft)) {
      if (held.migration !== undefined) grantMembership(draft, held, `migration ${held.migration} has run already`)
    }
    return
  }
  const clauses = differingClauses(state, desired.privilegedReplication)
  if (clauses.length > 0) {
    draft.add({
      stage: "system",
      change: { _tag: "AlterPrivilegedRole", role, clauses },
      reason: "attributes of the privileged role were changed"
    })
  }
  planMemberships(draft)
}

const deletedRoles = ({ desired }: Draft): ReadonlySet<string> =>
  new Set(desired.deltas.flatMap((delta) => (delta._tag === "DeleteRole" ? [delta.name] : [])))

/** Renames in the order of the list, where the old name exists and the new one does not. */
const renameRoles = (draft: Draft, renames: ReadonlyArray<Rename>): ReadonlyArray<Rename> => {
  const done: Array<Rename> = []
  for (const { name, newName } of renames) {
    const role = draft.roles.get(name)
    if (role === undefined || draft.roles.has(newName)) continue
    draft.roles.delete(name)
    // The name is the salt of an md5 verifier, so the server drops it.
    const verifier = role.verifier?.startsWith("md5") === true ? undefined : role.verifier
    draft.roles.set(newName, { ...role, verifier })
    for (const [database, state] of draft.databases) {
      if (state.owner === name) draft.databases.set(database, { ...state, owner: newName })
    }
    done.push({ name, newName })
  }
  return done
}

/**
 * Where an old name is also a new one, or listed, or a new name is deleted, a replay of the list would not stop at what is
 * done. The renames of such a list are one transaction with the mark that they were done, and it does nothing afterwards.
 */
export const planRoleRenames = (draft: Draft): void => {
  const { desired, snapshot } = draft
  const { timelineId } = desired
  const renames = desired.deltas.filter((delta) => delta._tag === "RenameRole")
  const made = new Set([...renames.map(({ newName }) => newName), ...desired.roles.map(({ name }) => name)])
  const deleted = deletedRoles(draft)
  const isEntangled = renames.some(({ name, newName }) => made.has(name) || deleted.has(newName))
  const deltas = deltaText(desired)
  if (isEntangled && deltas !== undefined) {
    const mark = snapshot.databases.get(snapshot.systemDatabase)?.mark
    if (mark?.timelineId === timelineId && mark.deltas === deltas) return
    const remember = { timelineId, database: snapshot.systemDatabase, deltas }
    draft.add({
      stage: "system",
      change: { _tag: "RenameRoles", renames: renameRoles(draft, renames), remember },
      reason: "delta_operations: rename_role, not to be done again",
      needs: [stateObject]
    })
    return
  }
  for (const { name, newName } of renameRoles(draft, renames)) {
    draft.add({
      stage: "system",
      change: { _tag: "RenameRole", role: name, newName },
      reason: `delta_operations: rename_role to ${roleObject(newName)}`,
      needs: [roleObject(name)]
    })
  }
}

export const planRoles = (draft: Draft): void => {
  const { desired } = draft
  const deleted = deletedRoles(draft)
  for (const role of desired.roles) {
    if (role.name === desired.privilegedRole) {
      draft.warnings.push(`${roleObject(role.name)} of cluster.roles is the privileged role, its attributes are fixed`)
      continue
    }
    // A role that is deleted in the same breath is not made first.
    if (deleted.has(role.name)) continue
    const live = draft.roles.get(role.name)
    if (live === undefined) {
      draft.roles.set(role.name, { verifier: role.verifier, dependents: undefined })
      draft.add({
        stage: "system",
        change: { _tag: "CreateRole", role, privilegedRole: desired.privilegedRole },
        reason: "it does not exist",
        needs: role.jwks ? [] : [roleObject(desired.privilegedRole)]
      })
    } else if (live.verifier !== role.verifier) {
      draft.roles.set(role.name, { ...live, verifier: role.verifier })
      draft.add({
        stage: "system",
        change: { _tag: "AlterRole", role },
        reason: role.verifier === undefined ? "it has a password and should not" : "its password verifier differs",
        needs: [roleObject(role.name)]
      })
    }
  }
}

/**
 * What depends on roles that are to be deleted, in the system database. First of all, because it takes the shared objects
 * with it: side by side in several databases that fails, and who gets the shared objects would be chance.
 */
export const planDisownShared = (draft: Draft): void => {
  const { snapshot } = draft
  const system = snapshot.databases.get(snapshot.systemDatabase)?.oid
  const remaining = new Set([...draft.databases.values()].map(({ state }) => state.oid))
  for (const role of deletedRoles(draft)) {
    const dependents = draft.roles.get(role)?.dependents
    if (dependents === undefined) continue
    const { inside, owned, shared } = dependents
    if (!shared && !(system !== undefined && inside.has(system)) && [...owned].every((oid) => !remaining.has(oid)))
      continue
    draft.add({
      stage: "system",
      change: { _tag: "DisownRole", role, newOwner: snapshot.admin },
      reason: `delta_operations: delete_role, and something depends on ${roleObject(role)}`
    })
  }
}

export const planRoleDrops = (draft: Draft): void => {
  const { desired, snapshot } = draft
  const entered = new Set([snapshot.systemDatabase, ...desired.databases.map(({ name }) => name)])
  for (const role of deletedRoles(draft)) {
    const live = draft.roles.get(role)
    if (live === undefined) continue
    draft.roles.delete(role)
    for (const [database, { state }] of draft.databases) {
      if (entered.has(database) || live.dependents?.inside.has(state.oid) !== true) continue
      draft.warnings.push(
        `${roleObject(role)} cannot be deleted while something in ${databaseObject(database)} depends on it, which the document does not list`
      )
    }
    draft.add({
      stage: "finish",
      change: { _tag: "DropRole", role },
      reason: "delta_operations: delete_role",
      needs: [roleObject(role), dependentsObject(role)]
    })
  }
}

/** Roles to be deleted that have something in a database whose owner stays. */
export const disownedIn = (draft: Draft, oid: number | undefined, owner: string): ReadonlyArray<string> =>
  oid === undefined
    ? []
    : [...deletedRoles(draft)].filter(
        (role) => role !== owner && draft.roles.get(role)?.dependents?.inside.has(oid) === true
      )
