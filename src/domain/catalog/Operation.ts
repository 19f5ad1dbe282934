/**
 * One step towards what the document asks: what changes, where, why, after what, and its SQL.
 *
 * The statements of an operation are one message to the server and so one transaction.
 */

import type { Change } from "./Change.ts"
import { identifier } from "./quoting.ts"
import { type Statement, statements } from "./statements.ts"
import { stateTable } from "./stateTable.ts"

/** When an operation runs; within a stage in the order of the plan, different databases side by side. */
export type Stage = "before" | "system" | "databases" | "finish"

export interface Operation {
  readonly stage: Stage
  readonly change: Change
  /** What it acts on: `role "alice"`. */
  readonly object: string
  /** What its object is called afterwards, if that differs. */
  readonly becomes: string | undefined
  /** `create_role`. */
  readonly operation: string
  /** Database that it runs in; undefined: the system database. */
  readonly database: string | undefined
  readonly reason: string
  /** Objects whose operations must not have failed. */
  readonly needs: ReadonlyArray<string>
  readonly statements: ReadonlyArray<Statement>
}

/** Names of objects, as in results and messages. */
export const roleObject = (name: string): string => `role ${identifier(name)}`
export const databaseObject = (name: string): string => `database ${identifier(name)}`
export const extensionObject = (name: string): string => `extension ${identifier(name)}`
export const schemaObject = (name: string): string => `schema ${identifier(name)}`
export const tableObject = (name: string): string => `table ${name}`
export const stateObject = tableObject(stateTable)
export const subscriptionsObject = (database: string): string => `subscriptions of ${databaseObject(database)}`
export const contentsObject = (database: string): string => `contents of ${databaseObject(database)}`
export const dependentsObject = (role: string): string => `dependents of ${roleObject(role)}`

export const objectOf = (change: Change): string => {
  switch (change._tag) {
    case "CreatePrivilegedRole":
    case "AlterPrivilegedRole":
    case "RenameRole":
    case "DropRole":
    case "CreateServiceRole":
    case "SetRoleTimeout":
    case "GrantMonitor":
      return roleObject(change.role)
    case "RenameRoles":
      return "roles of delta_operations"
    case "GrantMembership":
    case "RevokeMembership":
      return roleObject(change.member)
    case "CreateRole":
    case "AlterRole":
      return roleObject(change.role.name)
    case "DisownRole":
      return dependentsObject(change.role)
    case "DropSubscriptions":
      return subscriptionsObject(change.database)
    case "AllowConnections":
    case "DropInvalidDatabase":
    case "UntemplateDatabase":
    case "DropDatabase":
    case "RenameDatabase":
    case "AlterDatabaseOwner":
    case "FinishDatabase":
      return databaseObject(change.database)
    case "CreateDatabase":
      return databaseObject(change.database.name)
    case "BeginDatabases":
    case "EndDatabases":
    case "PrepareState":
    case "RememberContents":
    case "RememberDeltas":
      return stateObject
    case "CreateSchemaNeon":
      return schemaObject("neon")
    case "OwnPublicSchema":
    case "GrantWebAccess":
    case "DefaultPrivileges":
      return contentsObject(change.database)
    case "CreateExtension":
    case "UpdateExtension":
      return extensionObject(change.extension)
    case "RelocateNeon":
      return extensionObject("neon")
    case "CreateHealthCheck":
      return tableObject("public.health_check")
    case "CreateHealthFunction":
      return "function public.health_check_write_succeeds()"
    case "RecreateDatabricksAuth":
      return extensionObject("databricks_auth")
    case "RecordSubscriptionsDropped":
      return tableObject("neon.drop_subscriptions_done")
    case "SilenceAudit":
      return databaseObject("postgres")
  }
}

const becomes = (change: Change): string | undefined => {
  if (change._tag === "RenameRole") return roleObject(change.newName)
  return change._tag === "RenameDatabase" ? databaseObject(change.newName) : undefined
}

const snake = (tag: string): string =>
  tag.replace(/[A-Z]/gu, (letter, at: number) => (at === 0 ? "" : "_") + letter.toLowerCase())

export interface OperationOptions {
  readonly stage: Stage
  readonly change: Change
  readonly reason: string
  readonly database?: string | undefined
  readonly needs?: ReadonlyArray<string>
}

export const operation = ({ change, database, needs, reason, stage }: OperationOptions): Operation => ({
  stage,
  change,
  object: objectOf(change),
  becomes: becomes(change),
  operation: snake(change._tag),
  database,
  reason,
  needs: needs ?? [],
  statements: statements(change)
})

/** The message for the server. */
export const script = ({ statements }: Operation): string => statements.map(({ text }) => text).join(";\n")
