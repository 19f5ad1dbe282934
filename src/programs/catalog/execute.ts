/**
 * Runs operations and says of each how it went.
 *
 * An operation is one message and one transaction. One that fails takes with it what needs its object, and nothing else.
 * Small ones go many to a message; where such a message fails, its operations are run again one by one, to know which it
 * was. An operation that a limit leaves no room for is run again with the limits lifted.
 */
import * as Effect from "effect/Effect"
import { type Operation, script } from "../../domain/catalog/Operation.ts"
import type { OperationResult } from "../../domain/catalog/Report.ts"
import { describeLine } from "../../domain/describe.ts"
import type { PgError, Session } from "../../layers/PgWire.ts"
import type { OverrideFailed } from "./override.ts"

/** Results so far, and what must not be built upon. */
export interface Ledger {
  readonly systemDatabase: string
  readonly results: Array<OperationResult>
  /** Why nothing that needs an object can be done, by object. */
  readonly failed: Map<string, string>
  /** False: there is nothing to lift. */
  readonly liftLimits: Effect.Effect<boolean, OverrideFailed | PgError>
}

export const makeLedger = (systemDatabase: string, liftLimits: Ledger["liftLimits"]): Ledger => ({
  systemDatabase,
  results: [],
  failed: new Map(),
  liftLimits
})

type Failing = Pick<Operation, "object" | "operation" | "database"> & Partial<Pick<Operation, "becomes">>

const maxBatch = 200
/** SQLSTATE of a write that a disk, or the limit on the size of the cluster, has no room for. */
const diskFull = "53100"

const record = (
  ledger: Ledger,
  operation: Failing,
  rest: Pick<OperationResult, "outcome"> & Partial<OperationResult>
): void => {
  ledger.results.push({
    object: operation.object,
    operation: operation.operation,
    database: operation.database ?? ledger.systemDatabase,
    sqlstate: undefined,
    message: undefined,
    ...rest
  })
}

const obstacle = (ledger: Ledger, { needs }: Operation): string | undefined =>
  needs.find((object) => ledger.failed.has(object))

const block = (ledger: Ledger, { becomes, object }: Failing, why: string): void => {
  ledger.failed.set(object, why)
  if (becomes !== undefined) ledger.failed.set(becomes, why)
}

const skip = (ledger: Ledger, operation: Operation, object: string): void => {
  const message = `${object} failed`
  block(ledger, operation, message)
  record(ledger, operation, { outcome: "skipped", message })
}

/** Notes that something failed on an object. */
export const fail = (ledger: Ledger, operation: Failing, error: PgError | Error): void => {
  const message = describeLine(error)
  block(ledger, operation, message)
  const sqlstate = "code" in error && typeof error.code === "string" ? error.code : undefined
  record(ledger, operation, { outcome: "failed", sqlstate, message })
}

const announce = (operation: Operation) => {
  const text = `${operation.operation} ${operation.object}: ${operation.reason}`
  return operation.operation === "drop_database" || operation.operation === "drop_invalid_database"
    ? Effect.logWarning(text)
    : Effect.logDebug(text)
}

const runOne = Effect.fnUntraced(function* (ledger: Ledger, session: Session, operation: Operation) {
  const missing = obstacle(ledger, operation)
  if (missing !== undefined) return skip(ledger, operation, missing)
  yield* announce(operation)
  const send = session.query(script(operation))
  yield* send.pipe(
    Effect.catchIf(
      ({ code }) => code === diskFull,
      (full) => Effect.flatMap(ledger.liftLimits, (lifted) => (lifted ? send : Effect.fail(full)))
    ),
    Effect.match({
      onSuccess: () => record(ledger, operation, { outcome: "done" }),
      onFailure: (error) => fail(ledger, operation, error)
    })
  )
})

/** Quick, and nothing that a session of a user holds up for long. */
const batchable: ReadonlySet<string> = new Set<Operation["change"]["_tag"]>([
  "CreateRole",
  "AlterRole",
  "FinishDatabase",
  "OwnPublicSchema",
  "GrantWebAccess",
  "DefaultPrivileges"
])

const isBatchable = ({ change }: Operation): boolean => batchable.has(change._tag)

/** What can go in one message, from a position on. */
const batchFrom = (operations: ReadonlyArray<Operation>, from: number): ReadonlyArray<Operation> => {
  const end = operations.findIndex((operation, index) => index >= from && !isBatchable(operation))
  return operations.slice(from, Math.min(end < 0 ? operations.length : end, from + maxBatch))
}

const runBatch = Effect.fnUntraced(function* (ledger: Ledger, session: Session, batch: ReadonlyArray<Operation>) {
  const ready = new Set(batch.filter((operation) => obstacle(ledger, operation) === undefined))
  const together =
    ready.size > 0 &&
    (yield* session
      .query([...ready].map(script).join(";\n"))
      .pipe(Effect.match({ onSuccess: () => true, onFailure: () => false })))
  for (const operation of batch) {
    if (together && ready.has(operation)) record(ledger, operation, { outcome: "done" })
    else yield* runOne(ledger, session, operation)
  }
})

/** Runs operations in their order on one session. `revise` has the last word on what is not sent in a batch. */
export const run = Effect.fnUntraced(function* (
  ledger: Ledger,
  session: Session,
  operations: ReadonlyArray<Operation>,
  revise: (operation: Operation) => ReadonlyArray<Operation> = (operation) => [operation]
) {
  for (let at = 0; at < operations.length; ) {
    const batch = batchFrom(operations, at)
    const operation = operations[at]
    if (batch.length > 1) {
      yield* runBatch(ledger, session, batch)
      at += batch.length
    } else {
      for (const revised of operation === undefined ? [] : revise(operation)) yield* runOne(ledger, session, revised)
      at += 1
    }
  }
})
