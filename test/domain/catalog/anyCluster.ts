/** Clusters in memory at random, and what somebody changes in them. */
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import type { Change } from "../../../src/domain/catalog/Change.ts"
import type { Contents, DatabaseState, RoleState, Snapshot } from "../../../src/domain/catalog/Snapshot.ts"
import { Name } from "./anyDocument.ts"
import { emptyCluster, type Model, plainDatabase, plainRole, privileged } from "./model.ts"

/** The inside of a database that is older than 15. */
export const fresh: Contents = {
  publicOwner: "cloud_admin",
  defaultTables: false,
  defaultSequences: false,
  webAccessLacksCreate: true,
  extensions: new Map()
}

/** A cluster in which some of the names are taken. */
export const AnyCluster: Arbitrary.Arbitrary<Model> = Arbitrary.map(
  Arbitrary.all({
    roles: Arbitrary.array(Arbitrary.schema(Name), { maxLength: 3 }),
    databases: Arbitrary.array(
      Arbitrary.schema(
        Schema.Struct({
          name: Name,
          subscribed: Schema.Boolean,
          isTemplate: Schema.Boolean,
          allowConnections: Schema.Boolean,
          invalid: Schema.Boolean
        })
      ),
      { maxLength: 3 }
    )
  }),
  ({ databases, roles }) => {
    const { contents, snapshot } = emptyCluster
    const made = new Map(databases.map((database) => [database.name, database]))
    const oids = [...made.keys()].map((name, index) => [name, 10_000 + index] as const)
    return {
      ...emptyCluster,
      snapshot: {
        ...snapshot,
        roles: new Map<string, RoleState>([...snapshot.roles, ...roles.map((name) => [name, plainRole] as const)]),
        databases: new Map<string, DatabaseState>([
          ...snapshot.databases,
          ...oids.map(([name, oid]) => {
            const wish = made.get(name)
            const state = {
              ...plainDatabase(oid, roles[0] ?? "cloud_admin"),
              isTemplate: wish?.isTemplate === true,
              allowConnections: wish?.allowConnections === true,
              subscriptions: wish?.subscribed === true && wish.invalid !== true ? ["s"] : [],
              invalid: wish?.invalid === true
            }
            return [name, state] as const
          })
        ])
      },
      contents: new Map<number, Contents>([...contents, ...oids.map(([, oid]) => [oid, fresh] as const)])
    }
  }
)

const Drift = Schema.Literals(["drop role", "drop database", "verifier", "owner"])

/** What somebody does: to be put right, to be left alone, and to the privileged role. */
export const AnyDrift = Arbitrary.all({
  changes: Arbitrary.array(Arbitrary.schema(Schema.Tuple([Drift, Name])), { maxLength: 4 }),
  kept: Arbitrary.array(
    Arbitrary.schema(
      Schema.Struct({ name: Name, createDb: Schema.Boolean, superuser: Schema.Boolean, connectionLimit: Schema.Int })
    ),
    { maxLength: 2 }
  ),
  privileged: Arbitrary.map(
    Arbitrary.schema(
      Schema.Struct({
        attributes: Schema.Struct({
          superuser: Schema.Boolean,
          inherit: Schema.Boolean,
          createRole: Schema.Boolean,
          createDb: Schema.Boolean,
          login: Schema.Boolean,
          replication: Schema.Boolean,
          bypassRls: Schema.Boolean,
          connectionLimit: Schema.Int
        }),
        drop: Schema.Boolean,
        memberships: Schema.Array(
          Schema.Struct({
            role: Schema.Literals([
              "pg_read_all_data",
              "pg_write_all_data",
              "pg_execute_server_program",
              "cloud_admin"
            ]),
            grantor: Schema.Literals(["cloud_admin", "a"]),
            admin: Schema.Boolean,
            inherit: Schema.Boolean,
            set: Schema.Boolean
          })
        )
      })
    ),
    ({ attributes, drop, memberships }) =>
      ({ roles }: Snapshot): Partial<Snapshot> => {
        const others = [...roles].filter(([name]) => name !== "neon_superuser")
        const changed = ["neon_superuser", { ...privileged, ...attributes }] as const
        // The server holds one row for each role and grantor.
        const rows = new Map(memberships.map((row) => [`${row.role} ${row.grantor}`, row]))
        return drop
          ? { roles: new Map(others), memberships: [] }
          : { roles: new Map([...others, changed]), memberships: [...rows.values()] }
      }
  )
})

/** A change behind our back, where there is something to change. */
export const changesOf = (
  { snapshot }: Model,
  [kind, name]: readonly [typeof Drift.Type, string]
): ReadonlyArray<Change> => {
  const database = snapshot.databases.get(name)
  switch (kind) {
    case "drop role":
      return snapshot.roles.has(name) && ![...snapshot.databases.values()].some(({ owner }) => owner === name)
        ? [{ _tag: "DropRole", role: name }]
        : []
    case "drop database":
      return database === undefined ? [] : [{ _tag: "DropDatabase", database: name }]
    case "verifier":
      return snapshot.roles.has(name)
        ? [{ _tag: "AlterRole", role: { name, verifier: "md5other", options: [], jwks: false } }]
        : []
    case "owner":
      return database === undefined
        ? []
        : [{ _tag: "AlterDatabaseOwner", database: name, owner: "cloud_admin", forget: false }]
  }
}

/** Attributes of a role that are nobody's business. */
export const withAttributes = (
  { snapshot, ...model }: Model,
  { name, ...attributes }: { readonly name: string } & Partial<RoleState>
): Model => {
  const role = snapshot.roles.get(name)
  const roles = role === undefined ? snapshot.roles : new Map(snapshot.roles).set(name, { ...role, ...attributes })
  return { ...model, snapshot: { ...snapshot, roles } }
}
