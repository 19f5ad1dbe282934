/** Catalogs in memory: what the server would make of the operations. */

import type { Change } from "../../../src/domain/catalog/Change.ts"
import type { Desired } from "../../../src/domain/catalog/Desired.ts"
import type { Operation } from "../../../src/domain/catalog/Operation.ts"
import { type Mode, plan } from "../../../src/domain/catalog/plan.ts"
import { planContents } from "../../../src/domain/catalog/planContents.ts"
import {
  type Contents,
  type DatabaseState,
  type DatabricksState,
  freshContents,
  type Mark,
  type RoleState,
  type Snapshot
} from "../../../src/domain/catalog/Snapshot.ts"

export interface Model {
  readonly snapshot: Snapshot
  /** By oid. */
  readonly contents: ReadonlyMap<number, Contents>
  readonly nextOid: number
}

export const plainRole: RoleState = {
  superuser: false,
  inherit: true,
  createRole: false,
  createDb: false,
  login: true,
  replication: false,
  bypassRls: false,
  connectionLimit: -1,
  validUntil: undefined,
  verifier: undefined
}

export const privileged: RoleState = {
  ...plainRole,
  createRole: true,
  createDb: true,
  login: false,
  replication: true,
  bypassRls: true
}

export const plainDatabase = (oid: number, owner: string): DatabaseState => ({
  oid,
  owner,
  isTemplate: false,
  allowConnections: true,
  connectionLimit: -1,
  invalid: false,
  subscriptions: [],
  mark: undefined,
  unfinished: false
})

/** A cluster right after initdb. */
export const emptyCluster: Model = {
  snapshot: {
    serverVersion: 170000,
    inRecovery: false,
    systemDatabase: "postgres",
    admin: "cloud_admin",
    roles: new Map([["cloud_admin", { ...privileged, superuser: true, login: true }]]),
    memberships: [],
    databases: new Map([
      ["postgres", plainDatabase(5, "cloud_admin")],
      ["template1", { ...plainDatabase(1, "cloud_admin"), isTemplate: true }],
      ["template0", { ...plainDatabase(4, "cloud_admin"), isTemplate: true, allowConnections: false }]
    ]),
    dependents: new Map(),
    schemas: new Map([["public", "pg_database_owner"]]),
    extensions: new Map(),
    neonVersion: "1.6",
    healthCheck: false,
    auditSilenced: false,
    migrationId: undefined,
    subscriptionsDroppedFor: undefined,
    stateTable: false,
    databricks: undefined
  },
  contents: new Map([[5, freshContents(170000, "cloud_admin")]]),
  nextOid: 16384
}

const set = <K, V>(map: ReadonlyMap<K, V>, key: K, value: V): ReadonlyMap<K, V> => new Map(map).set(key, value)
const without = <K, V>(map: ReadonlyMap<K, V>, key: K): ReadonlyMap<K, V> => {
  const copy = new Map(map)
  copy.delete(key)
  return copy
}

class Refused extends Error {}

const must = <A>(value: A | undefined, what: string): A => {
  if (value === undefined) throw new Refused(what)
  return value
}

const remember = (old: Mark | undefined, timelineId: string, mark: Partial<Mark>): Mark => ({
  timelineId,
  fingerprint: old?.timelineId === timelineId ? old.fingerprint : undefined,
  deltas: old?.timelineId === timelineId ? old.deltas : undefined,
  ...mark
})

/** The catalogs after a change. Throws what the server would refuse. */
const change = (model: Model, made: Change): Model => {
  const { snapshot } = model
  const withSnapshot = (next: Partial<Snapshot>): Model => ({ ...model, snapshot: { ...snapshot, ...next } })
  const role = (name: string, next: Partial<RoleState>) =>
    withSnapshot({ roles: set(snapshot.roles, name, { ...must(snapshot.roles.get(name), `role ${name}`), ...next }) })
  const database = (name: string, next: Partial<DatabaseState>) =>
    withSnapshot({
      databases: set(snapshot.databases, name, {
        ...must(snapshot.databases.get(name), `database ${name}`),
        ...next
      })
    })
  const inside = (name: string, next: (old: Contents) => Contents): Model => {
    const { oid } = must(snapshot.databases.get(name), `database ${name}`)
    return { ...model, contents: set(model.contents, oid, next(must(model.contents.get(oid), name))) }
  }
  const databricks = (next: Partial<DatabricksState>) =>
    withSnapshot({ databricks: { ...must(snapshot.databricks, "lakebase mode"), ...next } })
  const timelineOf = (name: string) => snapshot.databases.get(name)?.mark?.timelineId ?? ""
  const membership = (name: string) => ({ role: name, grantor: "cloud_admin", admin: false, inherit: true, set: true })
  switch (made._tag) {
    case "CreatePrivilegedRole":
      return withSnapshot({
        roles: set(snapshot.roles, made.role, { ...privileged, replication: made.replication }),
        memberships: ["pg_read_all_data", "pg_write_all_data"].map(membership)
      })
    case "AlterPrivilegedRole":
      return role(made.role, privileged)
    case "GrantMembership":
      return withSnapshot({
        memberships: [
          ...snapshot.memberships.filter(({ grantor, role }) => role !== made.role || grantor !== "cloud_admin"),
          { ...membership(made.role), admin: made.admin }
        ]
      })
    case "RevokeMembership":
      return withSnapshot({
        memberships: snapshot.memberships.filter(({ grantor, role }) => role !== made.role || grantor !== made.grantor)
      })
    case "RenameRole": {
      if (snapshot.roles.has(made.newName)) throw new Refused(`role ${made.newName} exists`)
      const old = must(snapshot.roles.get(made.role), `role ${made.role}`)
      const verifier = old.verifier?.startsWith("md5") === true ? undefined : old.verifier
      return withSnapshot({
        roles: set(without(snapshot.roles, made.role), made.newName, { ...old, verifier }),
        databases: new Map(
          [...snapshot.databases].map(([name, state]) => [
            name,
            state.owner === made.role ? { ...state, owner: made.newName } : state
          ])
        )
      })
    }
    case "RenameRoles": {
      const { remember: mark, renames } = made
      return [
        ...renames.map(({ name, newName }) => ({ _tag: "RenameRole", role: name, newName }) as const),
        { _tag: "RememberDeltas", ...mark } as const
      ].reduce<Model>(change, model)
    }
    case "CreateRole":
      if (snapshot.roles.has(made.role.name)) throw new Refused(`role ${made.role.name} exists`)
      return withSnapshot({
        roles: set(snapshot.roles, made.role.name, {
          ...(made.role.jwks ? plainRole : { ...privileged, login: true }),
          verifier: made.role.verifier
        })
      })
    case "AlterRole":
      return role(made.role.name, { login: true, verifier: made.role.verifier })
    case "DropRole":
      if ([...snapshot.databases.values()].some(({ owner }) => owner === made.role)) {
        throw new Refused(`role ${made.role} owns a database`)
      }
      return withSnapshot({ roles: without(snapshot.roles, made.role) })
    case "DisownRole":
      return withSnapshot({
        databases: new Map(
          [...snapshot.databases].map(([name, state]) => [
            name,
            state.owner === made.role ? { ...state, owner: made.newOwner } : state
          ])
        )
      })
    case "AllowConnections":
      return database(made.database, { allowConnections: true })
    case "DropSubscriptions":
      if (snapshot.databases.get(made.database)?.allowConnections !== true) throw new Refused("not connectable")
      return database(made.database, { subscriptions: [] })
    case "UntemplateDatabase":
      return database(made.database, { isTemplate: false })
    case "DropInvalidDatabase":
      return withSnapshot({ databases: without(snapshot.databases, made.database) })
    case "DropDatabase": {
      const dropped = must(snapshot.databases.get(made.database), `database ${made.database}`)
      if (dropped.isTemplate || dropped.subscriptions.length > 0) throw new Refused("it cannot be dropped")
      return {
        ...withSnapshot({ databases: without(snapshot.databases, made.database) }),
        contents: without(model.contents, dropped.oid)
      }
    }
    case "RenameDatabase": {
      if (snapshot.databases.has(made.newName)) throw new Refused(`database ${made.newName} exists`)
      const old = must(snapshot.databases.get(made.database), `database ${made.database}`)
      const mark =
        made.remember === undefined
          ? old.mark
          : remember(old.mark, made.remember.timelineId, { deltas: made.remember.deltas })
      return withSnapshot({
        databases: set(without(snapshot.databases, made.database), made.newName, { ...old, mark })
      })
    }
    case "AlterDatabaseOwner":
      must(snapshot.roles.get(made.owner), `role ${made.owner}`)
      return database(made.database, {
        owner: made.owner,
        ...(made.forget
          ? {
              mark: remember(snapshot.databases.get(made.database)?.mark, timelineOf(made.database), {
                fingerprint: undefined
              })
            }
          : {})
      })
    case "BeginDatabases":
      if (!snapshot.stateTable) throw new Refused("no table")
      return model
    case "CreateDatabase":
      must(snapshot.roles.get(made.database.owner), `role ${made.database.owner}`)
      if (snapshot.databases.has(made.database.name)) throw new Refused(`database ${made.database.name} exists`)
      return {
        snapshot: {
          ...snapshot,
          databases: set(snapshot.databases, made.database.name, {
            ...plainDatabase(model.nextOid, made.database.owner),
            unfinished: true
          })
        },
        contents: set(model.contents, model.nextOid, freshContents(snapshot.serverVersion, snapshot.admin)),
        nextOid: model.nextOid + 1
      }
    case "FinishDatabase": {
      const { mark } = must(snapshot.databases.get(made.database), `database ${made.database}`)
      return database(made.database, {
        mark:
          made.remember === undefined
            ? mark
            : remember(mark, made.remember.timelineId, { deltas: made.remember.deltas })
      })
    }
    case "EndDatabases":
      return withSnapshot({
        databases: new Map(
          [...snapshot.databases].map(([name, state]) => [
            name,
            { ...state, unfinished: state.unfinished && !made.databases.includes(name) }
          ])
        )
      })
    case "PrepareState":
      return withSnapshot({ stateTable: true, schemas: set(snapshot.schemas, "neon_migration", made.admin) })
    case "CreateSchemaNeon":
      return withSnapshot({ schemas: set(snapshot.schemas, "neon", snapshot.admin) })
    case "OwnPublicSchema":
      return inside(made.database, (old) => ({ ...old, publicOwner: made.owner }))
    case "GrantWebAccess":
      return inside(made.database, (old) => ({ ...old, webAccessLacksCreate: false }))
    case "DefaultPrivileges":
      return inside(made.database, (old) =>
        made.objects === "TABLES" ? { ...old, defaultTables: true } : { ...old, defaultSequences: true }
      )
    case "CreateExtension":
      return withSnapshot({
        extensions: set(snapshot.extensions, made.extension, {
          version: made.extension === "neon" ? (snapshot.neonVersion ?? "") : "1.0",
          schema: made.schema,
          relocatable: true
        })
      })
    case "RelocateNeon":
      return withSnapshot({
        extensions: set(snapshot.extensions, "neon", {
          ...must(snapshot.extensions.get("neon"), "neon"),
          schema: "neon",
          relocatable: true
        })
      })
    case "UpdateExtension":
      return withSnapshot({
        extensions: set(snapshot.extensions, made.extension, {
          ...must(snapshot.extensions.get(made.extension), made.extension),
          version: snapshot.neonVersion ?? ""
        })
      })
    case "CreateHealthCheck":
      return withSnapshot({ healthCheck: true })
    case "CreateServiceRole":
      return withSnapshot({ roles: set(snapshot.roles, made.role, plainRole) })
    case "SetRoleTimeout":
      must(snapshot.roles.get(made.role), `role ${made.role}`)
      return databricks({ timeouts: new Map(snapshot.databricks?.timeouts).set(made.role, made.value) })
    case "RecreateDatabricksAuth":
      return withSnapshot({
        extensions: set(snapshot.extensions, "databricks_auth", {
          version: snapshot.databricks?.authVersion ?? "",
          schema: "public",
          relocatable: true
        })
      })
    case "GrantMonitor":
      must(snapshot.roles.get(made.role), `role ${made.role}`)
      return databricks({ monitorIsGranted: true })
    case "CreateHealthFunction":
      return databricks({ healthFunction: true })
    case "RecordSubscriptionsDropped":
      return withSnapshot({ subscriptionsDroppedFor: made.timelineId })
    case "SilenceAudit":
      return withSnapshot({ auditSilenced: true })
    case "RememberContents": {
      const databases = new Map(snapshot.databases)
      for (const [name, fingerprint] of made.fingerprints) {
        const state = must(databases.get(name), `database ${name}`)
        databases.set(name, { ...state, mark: remember(state.mark, made.timelineId, { fingerprint }) })
      }
      return withSnapshot({ databases })
    }
    case "RememberDeltas": {
      const { mark } = must(snapshot.databases.get(made.database), made.database)
      return database(made.database, { mark: remember(mark, made.timelineId, { deltas: made.deltas }) })
    }
  }
}

/** All changes of an apply, and the catalogs after as many of them as are wanted. */
export const apply = (model: Model, desired: Desired, mode: Mode = "incremental", limit = Number.POSITIVE_INFINITY) => {
  const { operations, visits } = plan(model.snapshot, desired, mode)
  const done: Array<Operation> = []
  let at = model
  const run = (list: ReadonlyArray<Operation>): void => {
    for (const next of list) {
      if (done.length >= limit) return
      at = change(at, next.change)
      done.push(next)
    }
  }
  const stage = (name: Operation["stage"]) => operations.filter((next) => next.stage === name)
  run(stage("before"))
  run(stage("system"))
  for (const visit of visits) {
    if (done.length >= limit) break
    const { oid } = must(at.snapshot.databases.get(visit.database), visit.database)
    run(planContents(desired, visit, must(at.contents.get(oid), visit.database), at.snapshot.admin))
  }
  run(stage("finish"))
  return { model: at, done }
}

/** A change behind our back. */
export const tamper = (model: Model, changes: ReadonlyArray<Change>): Model => changes.reduce(change, model)

/** What can be seen of the catalogs, in a form that can be compared; oids and marks are left out. */
export const visible = ({ contents, snapshot }: Model) => ({
  roles: [...snapshot.roles].sort(([a], [b]) => (a < b ? -1 : 1)),
  // One that another grantor has given, too, is the same membership.
  memberships: [...new Set(snapshot.memberships.map(({ role }) => role))].sort(),
  databases: [...snapshot.databases]
    .map(([name, { oid, mark: _, unfinished: __, ...state }]) => [name, state, contents.get(oid)] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1)),
  schemas: [...snapshot.schemas].sort(([a], [b]) => (a < b ? -1 : 1)),
  extensions: [...snapshot.extensions],
  healthCheck: snapshot.healthCheck,
  subscriptionsDroppedFor: snapshot.subscriptionsDroppedFor
})
