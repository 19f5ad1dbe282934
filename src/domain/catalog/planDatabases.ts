/** Operations on whole databases. Source: reference/catalog §6, §8.2, §8.5, §8.6, §9. */
import type { Draft, DraftDatabase } from "./Draft.ts"
import { databaseObject, operation, roleObject, stateObject, subscriptionsObject } from "./Operation.ts"
import { deltaText } from "./stateTable.ts"

export const planInvalidDatabases = (draft: Draft): void => {
  for (const [database, { state }] of draft.databases) {
    if (!state.invalid) continue
    draft.databases.delete(database)
    draft.add({
      stage: "system",
      change: { _tag: "DropInvalidDatabase", database },
      reason: "an earlier DROP DATABASE of it was interrupted"
    })
  }
}

/** The list has made the database what it is, or is about to: replaying it must not undo that. */
const isSettled = ({ desired }: Draft, name: string, { state }: DraftDatabase): boolean =>
  (state.mark?.timelineId === desired.timelineId && state.mark.deltas === deltaText(desired)) ||
  (state.unfinished && desired.databases.some((database) => database.name === name))

const planDelete = (draft: Draft, name: string, database: DraftDatabase): void => {
  const { liveName, state } = database
  const object = databaseObject(name)
  draft.databases.delete(name)
  if (state.subscriptions.length > 0) {
    if (!state.allowConnections) {
      draft.add({
        stage: "before",
        change: { _tag: "AllowConnections", database: liveName },
        reason: "its subscriptions can only be dropped from inside"
      })
    }
    draft.add({
      stage: "before",
      change: { _tag: "DropSubscriptions", database: liveName },
      reason: `delta_operations: delete_db, and it has ${state.subscriptions.length} subscription(s)`,
      database: liveName,
      needs: [databaseObject(liveName)]
    })
  }
  if (state.isTemplate) {
    draft.add({
      stage: "system",
      change: { _tag: "UntemplateDatabase", database: name },
      reason: "a template cannot be dropped",
      needs: [object]
    })
  }
  draft.add({
    stage: "system",
    change: { _tag: "DropDatabase", database: name },
    reason: "delta_operations: delete_db",
    needs: [object, ...(state.subscriptions.length > 0 ? [subscriptionsObject(liveName)] : [])]
  })
}

/** A rename onto a name that is taken counts as done, also when the name is free later on. */
const settle = (draft: Draft, name: string, database: DraftDatabase, deltas: string): void => {
  const { timelineId } = draft.desired
  const { state } = database
  const fingerprint = state.mark?.timelineId === timelineId ? state.mark.fingerprint : undefined
  draft.databases.set(name, { ...database, state: { ...state, mark: { timelineId, fingerprint, deltas } } })
  draft.add({
    stage: "system",
    change: { _tag: "RememberDeltas", timelineId, database: name, deltas },
    reason: `delta_operations: rename_db of ${databaseObject(name)} to a name that is taken counts as done`,
    needs: [stateObject]
  })
}

/**
 * Deletions and renames in the order of the list, each where there is something to do. The last rename of a database
 * remembers the list.
 */
export const planDatabaseDeltas = (draft: Draft): void => {
  const { desired } = draft
  const deltas = deltaText(desired)
  if (deltas === undefined) return
  /** Positions in the draft, by oid. */
  const lastRename = new Map<number, number>()
  for (const delta of desired.deltas) {
    if (delta._tag !== "DeleteDatabase" && delta._tag !== "RenameDatabase") continue
    const database = draft.databases.get(delta.name)
    if (database === undefined || isSettled(draft, delta.name, database)) continue
    if (delta._tag === "DeleteDatabase") {
      lastRename.delete(database.state.oid)
      planDelete(draft, delta.name, database)
    } else if (draft.databases.has(delta.newName)) {
      settle(draft, delta.name, database, deltas)
    } else {
      const { name, newName } = delta
      draft.databases.delete(name)
      draft.databases.set(newName, database)
      lastRename.set(database.state.oid, draft.operations.length)
      draft.add({
        stage: "system",
        change: { _tag: "RenameDatabase", database: name, newName, remember: undefined },
        reason: `delta_operations: rename_db to ${databaseObject(newName)}`,
        needs: [databaseObject(name)]
      })
    }
  }
  for (const position of lastRename.values()) {
    const planned = draft.operations[position]
    if (planned?.change._tag !== "RenameDatabase") continue
    const remember = { timelineId: desired.timelineId, deltas }
    draft.operations[position] = operation({
      ...planned,
      change: { ...planned.change, remember },
      needs: [...planned.needs, stateObject]
    })
  }
}

/** Whether the list of delta operations speaks of a database by this name. */
const isInDeltas = ({ desired }: Draft, name: string): boolean =>
  desired.deltas.some(
    (delta) =>
      (delta._tag === "DeleteDatabase" && delta.name === name) ||
      (delta._tag === "RenameDatabase" && (delta.name === name || delta.newName === name))
  )

/** A database that did not exist before. */
const absent = (owner: string): DraftDatabase["state"] => ({
  oid: 0,
  owner,
  isTemplate: false,
  allowConnections: true,
  connectionLimit: -1,
  invalid: false,
  subscriptions: [],
  mark: undefined,
  unfinished: false
})

export const planDatabases = (draft: Draft): void => {
  const { desired, snapshot } = draft
  const { privilegedRole, timelineId } = desired
  const deltas = deltaText(desired)
  const finish = (database: string, reason: string) =>
    draft.add({
      stage: "system",
      change: {
        _tag: "FinishDatabase",
        database,
        privilegedRole,
        remember: deltas !== undefined && isInDeltas(draft, database) ? { timelineId, deltas } : undefined
      },
      reason,
      needs: [databaseObject(database), roleObject(privilegedRole)]
    })
  const missing = desired.databases.filter(({ name }) => !draft.databases.has(name))
  const unfinished = desired.databases.filter(({ name }) => draft.databases.get(name)?.state.unfinished === true)
  for (const { name, owner } of desired.databases) {
    const database = draft.databases.get(name)
    if (!draft.roles.has(owner)) {
      draft.warnings.push(
        `${roleObject(owner)}, the owner of ${databaseObject(name)}, neither exists nor is to be made`
      )
    }
    if (database === undefined || database.owner === owner) continue
    draft.databases.set(name, { ...database, owner })
    draft.add({
      stage: "system",
      change: {
        _tag: "AlterDatabaseOwner",
        database: name,
        owner,
        forget: database.state.mark?.fingerprint !== undefined
      },
      reason: `it is owned by ${roleObject(database.owner)}`,
      needs: [roleObject(owner), databaseObject(name)]
    })
  }
  if (missing.length > 0) {
    draft.add({
      stage: "system",
      change: {
        _tag: "BeginDatabases",
        databases: [...unfinished, ...missing].map(({ name }) => name),
        timelineId,
        systemDatabase: snapshot.systemDatabase
      },
      reason: "what is interrupted can be finished by the next apply",
      needs: [stateObject]
    })
  }
  for (const database of missing) {
    const { name, owner } = database
    draft.databases.set(name, { state: absent(owner), liveName: name, owner })
    draft.add({
      stage: "system",
      change: { _tag: "CreateDatabase", database },
      reason: "it does not exist",
      needs: [roleObject(owner), databaseObject(name), stateObject]
    })
  }
  for (const { name } of unfinished) finish(name, "its creation was interrupted")
  for (const { name } of missing) finish(name, "it was just created")
  if (missing.length + unfinished.length > 0) {
    draft.add({
      stage: "system",
      change: { _tag: "EndDatabases", databases: [...unfinished, ...missing].map(({ name }) => name) },
      reason: "nothing is left to finish",
      needs: [stateObject]
    })
  }
}
