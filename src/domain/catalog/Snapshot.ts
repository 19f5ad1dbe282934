/**
 * The catalogs as they are: what one statement in the system database and one in each visited database read.
 *
 * Names are keys of `Map`s, compared byte by byte. Source: reference/catalog §2.3.
 */

export interface RoleAttributes {
  readonly superuser: boolean
  readonly inherit: boolean
  readonly createRole: boolean
  readonly createDb: boolean
  readonly login: boolean
  readonly replication: boolean
  readonly bypassRls: boolean
  /** -1: no limit. */
  readonly connectionLimit: number
  /** Undefined: for ever. */
  readonly validUntil: string | undefined
}

export interface RoleState extends RoleAttributes {
  /** As stored. */
  readonly verifier: string | undefined
}

/** One row of the memberships that the privileged role has in other roles. */
export interface Membership {
  readonly role: string
  readonly grantor: string
  readonly admin: boolean
  /** True before version 16, which has no such option. */
  readonly inherit: boolean
  readonly set: boolean
}

/** What was last applied to a database; void when it belongs to another timeline. */
export interface Mark {
  readonly timelineId: string
  /** What the work inside was done for. */
  readonly fingerprint: string | undefined
  /** List of delta operations that made the database what it is. */
  readonly deltas: string | undefined
}

export interface DatabaseState {
  readonly oid: number
  readonly owner: string
  readonly isTemplate: boolean
  readonly allowConnections: boolean
  /** -1: no limit. */
  readonly connectionLimit: number
  /** A `DROP DATABASE` of it was interrupted; it can only be dropped. */
  readonly invalid: boolean
  readonly subscriptions: ReadonlyArray<string>
  readonly mark: Mark | undefined
  /** Created by us, and not finished: the grant is missing. */
  readonly unfinished: boolean
}

export interface ExtensionState {
  readonly version: string
  readonly schema: string
  readonly relocatable: boolean
}

/** What depends on a role that is to be deleted. */
export interface RoleDependents {
  /** Shared objects other than databases. */
  readonly shared: boolean
  /** Oids of the databases that it owns or has rights on. */
  readonly owned: ReadonlySet<number>
  /** Oids of the databases that hold something of it. */
  readonly inside: ReadonlySet<number>
}

/** What lakebase mode looks at. */
export interface DatabricksState {
  /** Default version of extension `databricks_auth`; undefined: the server does not have it. */
  readonly authVersion: string | undefined
  /** Longest statement of reader roles, as configured. */
  readonly readerTimeout: string | undefined
  /** Longest statement of the reader roles and of the monitor, as set for each; undefined: nothing is set. */
  readonly timeouts: ReadonlyMap<string, string | undefined>
  /** The monitor may look at everything that it needs. */
  readonly monitorIsGranted: boolean
  readonly healthFunction: boolean
}

export interface Snapshot {
  /** As `server_version_num`: 170010. */
  readonly serverVersion: number
  readonly inRecovery: boolean
  /** The database that was read in. */
  readonly systemDatabase: string
  /** The role that reads and writes. */
  readonly admin: string
  readonly roles: ReadonlyMap<string, RoleState>
  readonly memberships: ReadonlyArray<Membership>
  readonly databases: ReadonlyMap<string, DatabaseState>
  /** Of roles that the document deletes. */
  readonly dependents: ReadonlyMap<string, RoleDependents>
  /** Owners of the schemas of the system database that are ours. */
  readonly schemas: ReadonlyMap<string, string>
  /** In the system database. */
  readonly extensions: ReadonlyMap<string, ExtensionState>
  /** Default version of extension `neon`; undefined: the server does not have it. */
  readonly neonVersion: string | undefined
  readonly healthCheck: boolean
  /** Audit of database `postgres` is off. */
  readonly auditSilenced: boolean
  /** Undefined: no migration has run. */
  readonly migrationId: number | undefined
  /** Timeline whose inherited subscriptions were dropped last. */
  readonly subscriptionsDroppedFor: string | undefined
  /** The table of marks is there. */
  readonly stateTable: boolean
  /** Undefined outside of lakebase mode. */
  readonly databricks: DatabricksState | undefined
}

/** The inside of a database. */
export interface Contents {
  /** Owner of schema `public`; undefined: there is none. */
  readonly publicOwner: string | undefined
  /** The privileged role will get all rights, with grant option, on what the admin role makes in schema `public`. */
  readonly defaultTables: boolean
  readonly defaultSequences: boolean
  /** Role `web_access` exists and cannot create in schema `public`. */
  readonly webAccessLacksCreate: boolean
  readonly extensions: ReadonlyMap<string, string>
}

/** The inside of a database that was just made from an untouched template. */
export const freshContents = (serverVersion: number, admin: string): Contents => ({
  publicOwner: serverVersion >= 150000 ? "pg_database_owner" : admin,
  defaultTables: false,
  defaultSequences: false,
  webAccessLacksCreate: false,
  extensions: new Map()
})
