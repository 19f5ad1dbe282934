/** What the answers to the queries mean. */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Contents, DatabricksState, Mark, RoleDependents, RoleState, Snapshot } from "./Snapshot.ts"

/** Columns of the same length. */
const columnar = <Fields extends Schema.Struct.Fields>(fields: Fields) =>
  Schema.Struct(fields).check(
    Schema.makeFilter((columns: Readonly<Record<string, unknown>>) => {
      const lengths = new Set(Object.values(columns).map((column) => (Array.isArray(column) ? column.length : 0)))
      return lengths.size <= 1 || "columns of different lengths"
    })
  )

const Texts = Schema.Array(Schema.String)
const MaybeTexts = Schema.Array(Schema.NullOr(Schema.String))
const Numbers = Schema.Array(Schema.Finite)
/** So many letters `t` or `f`. */
const flags = (count: number) =>
  Schema.Array(Schema.String.check(Schema.isPattern(new RegExp(`^[tf]{${count}}$`, "u"))))

const Answer = Schema.fromJsonString(
  Schema.Struct({
    version: Schema.Int,
    recovery: Schema.Boolean,
    database: Schema.String,
    admin: Schema.String,
    roles: columnar({
      name: Texts,
      verifier: MaybeTexts,
      flags: flags(7),
      connectionLimit: Numbers,
      validUntil: MaybeTexts
    }),
    memberships: Schema.Array(
      Schema.Struct({
        role: Schema.String,
        grantor: Schema.NullOr(Schema.String),
        admin: Schema.Boolean,
        inherit: Schema.NullOr(Schema.Boolean),
        set: Schema.NullOr(Schema.Boolean)
      })
    ),
    databases: columnar({ oid: Numbers, name: Texts, owner: Texts, flags: flags(2), connectionLimit: Numbers }),
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
    migration: Schema.NullOr(Schema.Struct({ id: Numbers })),
    dropped: Schema.NullOr(Schema.Struct({ timeline: MaybeTexts })),
    state: Schema.NullOr(
      columnar({
        database: Numbers,
        timeline: Texts,
        fingerprint: MaybeTexts,
        deltas: MaybeTexts,
        // Users with pg_write_all_data can write any array there.
        unfinished: Schema.Array(Schema.Unknown)
      })
    ),
    databricks: Schema.optionalKey(
      Schema.Struct({
        authVersion: Schema.NullOr(Schema.String),
        readerTimeout: Schema.NullOr(Schema.String),
        timeouts: Schema.Array(Schema.Struct({ role: Schema.String, settings: Schema.NullOr(Texts) })),
        monitorIsGranted: Schema.Boolean,
        healthFunction: Schema.Boolean
      })
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

const rolesOf = ({ connectionLimit, flags, name, validUntil, verifier }: (typeof Answer.Type)["roles"]) =>
  new Map(
    name.map((role, row): readonly [string, RoleState] => {
      const [superuser, inherit, createRole, createDb, login, replication, bypassRls] = flags[row] ?? ""
      return [
        role,
        {
          superuser: superuser === "t",
          inherit: inherit === "t",
          createRole: createRole === "t",
          createDb: createDb === "t",
          login: login === "t",
          replication: replication === "t",
          bypassRls: bypassRls === "t",
          connectionLimit: connectionLimit[row] ?? -1,
          validUntil: validUntil[row] ?? undefined,
          verifier: verifier[row] ?? undefined
        }
      ]
    })
  )

const timeoutSetting = "statement_timeout="

const databricksOf = ({
  authVersion,
  readerTimeout,
  timeouts,
  ...rest
}: NonNullable<(typeof Answer.Type)["databricks"]>): DatabricksState => ({
  ...rest,
  authVersion: authVersion ?? undefined,
  readerTimeout: readerTimeout ?? undefined,
  timeouts: new Map(
    timeouts.map(({ role, settings }) => [
      role,
      settings?.find((setting) => setting.startsWith(timeoutSetting))?.slice(timeoutSetting.length)
    ])
  )
})

const snapshotOf = (answer: typeof Answer.Type): Snapshot => {
  const subscriptions = grouped(
    answer.subscriptions,
    ({ database }) => database,
    ({ name }) => name
  )
  const marks = new Map<number, Mark>()
  const unfinished = new Set<string>()
  const { state } = answer
  for (const [row, database] of state?.database.entries() ?? []) {
    marks.set(database, {
      timelineId: state?.timeline[row] ?? "",
      fingerprint: state?.fingerprint[row] ?? undefined,
      deltas: state?.deltas[row] ?? undefined
    })
    const names = state?.unfinished[row]
    for (const name of Array.isArray(names) ? names : []) {
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
    roles: rolesOf(answer.roles),
    memberships: answer.memberships.map(({ role, grantor, admin, inherit, set }) => ({
      role,
      grantor: grantor ?? "",
      admin,
      inherit: inherit ?? true,
      set: set ?? true
    })),
    databases: new Map(
      answer.databases.name.map((name, row) => {
        const oid = answer.databases.oid[row] ?? 0
        const connectionLimit = answer.databases.connectionLimit[row] ?? -1
        const flags = answer.databases.flags[row]
        return [
          name,
          {
            oid,
            owner: answer.databases.owner[row] ?? "",
            isTemplate: flags?.[0] === "t",
            allowConnections: flags?.[1] === "t",
            connectionLimit,
            invalid: connectionLimit === -2,
            subscriptions: subscriptions.get(oid) ?? [],
            mark: marks.get(oid),
            unfinished: unfinished.has(name)
          }
        ]
      })
    ),
    dependents,
    schemas: new Map(answer.schemas.map(({ name, owner }) => [name, owner])),
    extensions: new Map(answer.extensions.map(({ name, ...extension }) => [name, extension])),
    neonVersion: answer.neonVersion ?? undefined,
    healthCheck: answer.healthCheck,
    auditSilenced: answer.auditSilenced,
    migrationId: answer.migration?.id.length === 1 ? answer.migration.id[0] : undefined,
    subscriptionsDroppedFor: answer.dropped?.timeline[0] ?? undefined,
    stateTable: answer.state !== null,
    databricks: answer.databricks === undefined ? undefined : databricksOf(answer.databricks)
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
