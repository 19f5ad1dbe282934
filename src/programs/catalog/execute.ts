/**
 * Runs operations and says of each how it went.
 *
 * An operation is one message and one transaction. One that fails takes with it what needs its object, and nothing else.
 * Roles go many to a message; where such a message fails, its operations are run again one by one, to know which it was.
 */
import * as Effect from "effect/Effect"
import { type Operation, script } from "../../domain/catalog/Operation.ts"
import type { OperationResult } from "../../domain/catalog/Report.ts"
import { describeLine } from "../../domain/describe.ts"
import type { PgError, Session } from "../../layers/PgWire.ts"

/** Results so far, and what must not be built upon. */
export interface Ledger {
  readonly systemDatabase: string
  readonly results: Array<OperationResult>
  /** Why nothing that needs an object can be done, by object. */
  readonly failed: Map<string, string>
}

export const makeLedger = (systemDatabase: string): Ledger => ({ systemDatabase, results: [], failed: new Map() })

type Failing = Pick<Operation, "object" | "operation" | "database"> & Partial<Pick<Operation, "becomes">>

const maxBatch = 200

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
  yield* session.query(script(operation)).pipe(
    Effect.match({
      onSuccess: () => record(ledger, operation, { outcome: "done" }),
      onFailure: (error) => fail(ledger, operation, error)
    })
  )
})

const isBatchable = ({ operation }: Operation): boolean => operation === "create_role" || operation === "alter_role"

/** What can go in one message, from a position on. */
const batchFrom = (operations: ReadonlyArray<Operation>, from: number): ReadonlyArray<Operation> => {
  const end = operations.findIndex((operation, index) => index >= from && !isBatchable(operation))
  return operations.slice(from, Math.min(end < 0 ? operations.length : end, from + maxBatch))
}

const runBatch = Effect.fnUntraced(function* (ledger: Ledger, session: Session, batch: ReadonlyArray<Operation>) {
  const ready = batch.filter((operation) => obstacle(ledger, operation) === undefined)
  const together =
    ready.length === batch.length &&
    (yield* session
      .query(batch.map(script).join(";\n"))
      .pipe(Effect.match({ onSuccess: () => true, onFailure: () => false })))
  for (const operation of batch) {
    if (together) record(ledger, operation, { outcome: "done" })
    else yield* runOne(ledger, session, operation)
  }
})

/** Runs operations in their order on one session. */
export const run = Effect.fnUntraced(function* (
  ledger: Ledger,
  session: Session,
  operations: ReadonlyArray<Operation>
) {
  for (let at = 0; at < operations.length; ) {
    const batch = batchFrom(operations, at)
    const operation = operations[at]
    if (batch.length > 1) {
      yield* runBatch(ledger, session, batch)
      at += batch.length
    } else {
      if (operation !== undefined) yield* runOne(ledger, session, operation)
      at += 1
    }
  }
})
