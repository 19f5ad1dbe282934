/** What the answers to the queries mean. */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Contents, Mark, RoleDependents, Snapshot } from "./Snapshot.ts"

const Answer = Schema.fromJsonString(
  Schema.Struct({
    version: Schema.Int,
    recovery: Schema.Boolean,
    database: Schema.String,
    admin: Schema.String,
    roles: Schema.Array(
      Schema.Struct({
        name: Schema.String,
        verifier: Schema.NullOr(Schema.String),
        superuser: Schema.Boolean,
        inherit: Schema.Boolean,
        createRole: Schema.Boolean,
        createDb: Schema.Boolean,
        login: Schema.Boolean,
        replication: Schema.Boolean,
        bypassRls: Schema.Boolean,
        connectionLimit: Schema.Int,
        validUntil: Schema.NullOr(Schema.String)
      })
    ),
    memberships: Schema.Array(
      Schema.Struct({
        role: Schema.String,
        grantor: Schema.NullOr(Schema.String),
        admin: Schema.Boolean,
        inherit: Schema.NullOr(Schema.Boolean),
        set: Schema.NullOr(Schema.Boolean)
      })
    ),
    databases: Schema.Array(
      Schema.Struct({
        oid: Schema.Int,
        name: Schema.String,
        owner: Schema.String,
        encoding: Schema.String,
        collate: Schema.String,
        ctype: Schema.String,
        isTemplate: Schema.Boolean,
        allowConnections: Schema.Boolean,
        connectionLimit: Schema.Int,
        acl: Schema.NullOr(Schema.String)
      })
    ),
    subscriptions: Schema.Array(Schema.Struct({ database: Schema.Int, name: Schema.String })),
    dependents: Schema.Array(
      Schema.Struct({
        role: Schema.String,
        /** 0: the dependent object is shared. */
        database: Schema.Int,
        /** Oid of a dependent database. */
        shared: Schema.NullOr(Schema.Int)
      })
    ),
    schemas: Schema.Array(Schema.Struct({ name: Schema.String, owner: Schema.String })),
    extensions: Schema.Array(
      Schema.Struct({
        name: Schema.String,
        version: Schema.String,
        schema: Schema.String,
        relocatable: Schema.Boolean
      })
    ),
    neonVersion: Schema.NullOr(Schema.String),
    healthCheck: Schema.Boolean,
    auditSilenced: Schema.Boolean,
    migration: Schema.NullOr(Schema.Array(Schema.Struct({ id: Schema.Finite }))),
    dropped: Schema.NullOr(Schema.Array(Schema.Struct({ timeline: Schema.NullOr(Schema.String) }))),
    state: Schema.NullOr(
      Schema.Array(
        Schema.Struct({
          database: Schema.Int,
          timeline: Schema.String,
          fingerprint: Schema.NullOr(Schema.String),
          deltas: Schema.NullOr(Schema.String),
          // Users with pg_write_all_data can write any array there.
          unfinished: Schema.Unknown
        })
      )
    )
  })
)
const decodeAnswer = Schema.decodeUnknownResult(Answer)

const grouped = <A, K, V>(
  entries: ReadonlyArray<A>,
  key: (entry: A) => K,
  value: (entry: A) => V
): Map<K, Array<V>> => {
  const groups = new Map<K, Array<V>>()
  for (const entry of entries) {
    const group = groups.get(key(entry))
    if (group === undefined) groups.set(key(entry), [value(entry)])
    else group.push(value(entry))
  }
  return groups
}

const snapshotOf = (answer: typeof Answer.Type): Snapshot => {
  const subscriptions = grouped(
    answer.subscriptions,
    ({ database }) => database,
    ({ name }) => name
  )
  const marks = new Map<number, Mark>()
  const unfinished = new Set<string>()
  for (const row of answer.state ?? []) {
    marks.set(row.database, {
      timelineId: row.timeline,
      fingerprint: row.fingerprint ?? undefined,
      deltas: row.deltas ?? undefined
    })
    for (const name of Array.isArray(row.unfinished) ? row.unfinished : []) {
      if (typeof name === "string") unfinished.add(name)
    }
  }
  const dependents = new Map<string, RoleDependents>()
  const perRole = grouped(
    answer.dependents,
    ({ role }) => role,
    (dependent) => dependent
  )
  for (const [role, found] of perRole) {
    dependents.set(role, {
      shared: found.some(({ database, shared }) => database === 0 && shared === null),
      owned: new Set(found.flatMap(({ shared }) => (shared === null ? [] : [shared]))),
      inside: new Set(found.flatMap(({ database }) => (database === 0 ? [] : [database])))
    })
  }
  return {
    serverVersion: answer.version,
    inRecovery: answer.recovery,
    systemDatabase: answer.database,
    admin: answer.admin,
    roles: new Map(
      answer.roles.map(({ name, verifier, validUntil, ...attributes }) => [
        name,
        { ...attributes, verifier: verifier ?? undefined, validUntil: validUntil ?? undefined }
      ])
    ),
    memberships: answer.memberships.map(({ role, grantor, admin, inherit, set }) => ({
      role,
      grantor: grantor ?? "",
      admin,
      inherit: inherit ?? true,
      set: set ?? true
    })),
    databases: new Map(
      answer.databases.map(({ name, acl, ...database }) => [
        name,
        {
          ...database,
          acl: acl ?? undefined,
          invalid: database.connectionLimit === -2,
          subscriptions: subscriptions.get(database.oid) ?? [],
          mark: marks.get(database.oid),
          unfinished: unfinished.has(name)
        }
      ])
    ),
    dependents,
    schemas: new Map(answer.schemas.map(({ name, owner }) => [name, owner])),
    extensions: new Map(answer.extensions.map(({ name, ...extension }) => [name, extension])),
    neonVersion: answer.neonVersion ?? undefined,
    healthCheck: answer.healthCheck,
    auditSilenced: answer.auditSilenced,
    migrationId: answer.migration?.length === 1 ? answer.migration[0]?.id : undefined,
    subscriptionsDroppedFor: answer.dropped?.[0]?.timeline ?? undefined,
    stateTable: answer.state !== null
  }
}

/** The snapshot in the answer to `snapshotQuery`. */
export const readSnapshot = (text: string): Result.Result<Snapshot, Schema.SchemaError> =>
  Result.map(decodeAnswer(text), snapshotOf)

const ContentsAnswer = Schema.fromJsonString(
  Schema.Struct({
    publicOwner: Schema.NullOr(Schema.String),
    defaultTables: Schema.Boolean,
    defaultSequences: Schema.Boolean,
    webAccessLacksCreate: Schema.Boolean,
    extensions: Schema.Array(Schema.Struct({ name: Schema.String, version: Schema.String }))
  })
)
const decodeContents = Schema.decodeUnknownResult(ContentsAnswer)

/** The inside of a database in the answer to `contentsQuery`. */
export const readContents = (text: string): Result.Result<Contents, Schema.SchemaError> =>
  Result.map(decodeContents(text), ({ publicOwner, extensions, ...contents }) => ({
    ...contents,
    publicOwner: publicOwner ?? undefined,
    extensions: new Map(extensions.map(({ name, version }) => [name, version]))
  }))
