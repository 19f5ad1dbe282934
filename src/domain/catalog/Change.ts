/** Everything that can happen to the catalogs: what a plan is made of. */
import type { DesiredDatabase, DesiredRole } from "./Desired.ts"

export interface Rename {
  readonly name: string
  readonly newName: string
}

export type Change =
  | { readonly _tag: "CreatePrivilegedRole"; readonly role: string; readonly replication: boolean }
  | { readonly _tag: "AlterPrivilegedRole"; readonly role: string; readonly clauses: ReadonlyArray<string> }
  | {
      readonly _tag: "GrantMembership"
      readonly role: string
      readonly member: string
      readonly admin: boolean
      /** Memberships have options, since version 16. */
      readonly options: boolean
    }
  | {
      readonly _tag: "RevokeMembership"
      readonly role: string
      readonly member: string
      readonly adminOnly: boolean
      /** Undefined before version 16. */
      readonly grantor: string | undefined
    }
  | { readonly _tag: "RenameRole"; readonly role: string; readonly newName: string }
  | {
      readonly _tag: "RenameRoles"
      readonly renames: ReadonlyArray<Rename>
      readonly remember: { readonly timelineId: string; readonly database: string; readonly deltas: string }
    }
  | { readonly _tag: "CreateRole"; readonly role: DesiredRole; readonly privilegedRole: string }
  | { readonly _tag: "AlterRole"; readonly role: DesiredRole }
  | { readonly _tag: "DropRole"; readonly role: string }
  | { readonly _tag: "DisownRole"; readonly role: string; readonly newOwner: string }
  | { readonly _tag: "AllowConnections"; readonly database: string }
  | { readonly _tag: "DropSubscriptions"; readonly database: string }
  | { readonly _tag: "DropInvalidDatabase"; readonly database: string }
  | { readonly _tag: "UntemplateDatabase"; readonly database: string }
  | { readonly _tag: "DropDatabase"; readonly database: string }
  | {
      readonly _tag: "RenameDatabase"
      readonly database: string
      readonly newName: string
      /** To be remembered in the same transaction, when this is the last that the list does to the database. */
      readonly remember: { readonly timelineId: string; readonly deltas: string } | undefined
    }
  | {
      readonly _tag: "AlterDatabaseOwner"
      readonly database: string
      readonly owner: string
      /** What is remembered of its inside is void. */
      readonly forget: boolean
    }
  | {
      readonly _tag: "BeginDatabases"
      readonly databases: ReadonlyArray<string>
      readonly timelineId: string
      readonly systemDatabase: string
    }
  | { readonly _tag: "CreateDatabase"; readonly database: DesiredDatabase }
  | {
      readonly _tag: "FinishDatabase"
      readonly database: string
      readonly privilegedRole: string
      readonly remember: { readonly timelineId: string; readonly deltas: string } | undefined
    }
  | { readonly _tag: "EndDatabases"; readonly databases: ReadonlyArray<string> }
  | { readonly _tag: "PrepareState"; readonly admin: string }
  | { readonly _tag: "CreateSchemaNeon" }
  | { readonly _tag: "OwnPublicSchema"; readonly database: string; readonly owner: string }
  | { readonly _tag: "GrantWebAccess"; readonly database: string }
  | {
      readonly _tag: "DefaultPrivileges"
      readonly database: string
      readonly objects: "TABLES" | "SEQUENCES"
      readonly privilegedRole: string
    }
  | { readonly _tag: "CreateExtension"; readonly extension: string; readonly schema: string }
  | { readonly _tag: "RelocateNeon"; readonly relocatable: boolean }
  | { readonly _tag: "UpdateExtension"; readonly extension: string }
  | { readonly _tag: "CreateHealthCheck" }
  | { readonly _tag: "CreateHealthFunction" }
  /** `options`: attributes and memberships, as they stand behind the name. */
  | { readonly _tag: "CreateServiceRole"; readonly role: string; readonly options: string }
  | { readonly _tag: "SetRoleTimeout"; readonly role: string; readonly value: string }
  | { readonly _tag: "RecreateDatabricksAuth" }
  | { readonly _tag: "GrantMonitor"; readonly role: string }
  | { readonly _tag: "RecordSubscriptionsDropped"; readonly timelineId: string }
  | { readonly _tag: "SilenceAudit" }
  | {
      readonly _tag: "RememberContents"
      readonly timelineId: string
      readonly fingerprints: ReadonlyArray<readonly [database: string, fingerprint: string]>
    }
  | { readonly _tag: "RememberDeltas"; readonly timelineId: string; readonly database: string; readonly deltas: string }
