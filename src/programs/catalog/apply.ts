/**
 * Makes the catalogs agree with a document: one read, a plan, the operations, a report.
 *
 *     system database ─▶ databases that have to be entered, side by side ─▶ system database
 *
 * One connection stays on the system database; each database that is entered takes one more, at most `concurrency` at
 * once. Databases are created by two sessions, whatever the concurrency. A document that already holds costs the one
 * read. Source: reference/catalog §4–§6, decisions K1–K7.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type { Desired } from "../../domain/catalog/Desired.ts"
import {
  contentsObject,
  databaseObject,
  dependentsObject,
  type Operation,
  operation,
  subscriptionsObject
} from "../../domain/catalog/Operation.ts"
import { type Mode, type Plan, plan } from "../../domain/catalog/plan.ts"
import { planContents, type Visit } from "../../domain/catalog/planContents.ts"
import { contentsQuery, snapshotQuery } from "../../domain/catalog/queries.ts"
import { failureText, type Report, report } from "../../domain/catalog/Report.ts"
import { readContents, readSnapshot } from "../../domain/catalog/reading.ts"
import type { Contents, Snapshot } from "../../domain/catalog/Snapshot.ts"
import { firstIssue } from "../../domain/schemaIssue.ts"
import { PgError, type Session } from "../../layers/PgWire.ts"
import type { Limits, Sql } from "../../layers/Sql.ts"
import { fail, type Ledger, makeLedger, run } from "./execute.ts"
import type { OverrideFailed } from "./override.ts"
import { openAsAdmin, openSession } from "./sessions.ts"

/** The catalogs could not be read, or some of the operations failed. The message names the objects. */
export class CatalogFailed extends Data.TaggedError("CatalogFailed")<{
  readonly message: string
  /** What was tried; undefined: nothing. */
  readonly report: Report | undefined
  readonly cause?: unknown
}> {}

export interface ApplyOptions {
  readonly mode: Mode
  /** Databases worked on at once; at least 1. */
  readonly concurrency: number
  readonly limits?: Partial<Limits>
  /** Lifts the limits on what the catalogs may take; false: there is nothing to lift. */
  readonly liftLimits?: Effect.Effect<boolean, OverrideFailed | PgError>
}

export interface Applied extends Report {
  /** Number of the last migration, before the apply; undefined: none, or not readable. */
  readonly migrationId: number | undefined
}

const read = Effect.fnUntraced(function* <A>(
  session: Session,
  query: string,
  decode: (text: string) => Result.Result<A, Schema.SchemaError>
) {
  const [set] = yield* session.query(query)
  const decoded = decode(set?.rows[0]?.[0] ?? "")
  if (decoded._tag === "Success") return decoded.success
  return yield* new PgError({ message: `the answer of the catalogs is not understood: ${firstIssue(decoded.failure)}` })
})

/** Everything that can be seen from the system database, in one statement. */
export const readSystem = (session: Session, desired: Desired): Effect.Effect<Snapshot, PgError> =>
  read(session, snapshotQuery(desired), readSnapshot)

/** The inside of the session's database, in one statement. */
export const readInside = (session: Session, desired: Desired): Effect.Effect<Contents, PgError> =>
  read(session, contentsQuery(desired.privilegedRole), readContents)

/** What was to be done in a database cannot be done. */
const giveUp = (ledger: Ledger, { database, disown }: Visit, why: string): void => {
  for (const object of [contentsObject(database), subscriptionsObject(database), ...disown.map(dependentsObject)]) {
    ledger.failed.set(object, why)
  }
}

const unreachable = (ledger: Ledger, visit: Visit, error: PgError): void => {
  const { database } = visit
  giveUp(ledger, visit, error.message)
  fail(ledger, { object: contentsObject(database), operation: "enter_database", database }, error)
}

/** A database that is not what it should be is not entered. */
const canEnter = (ledger: Ledger, visit: Visit): boolean => {
  const why = ledger.failed.get(databaseObject(visit.database))
  if (why === undefined) return true
  giveUp(ledger, visit, why)
  return false
}

const enter = (ledger: Ledger, desired: Desired, snapshot: Snapshot, visit: Visit, options: ApplyOptions) =>
  Effect.gen(function* () {
    const session = yield* openSession(options.limits, visit.database)
    const contents = yield* readInside(session, desired)
    yield* run(ledger, session, planContents(desired, visit, contents, snapshot.admin))
  }).pipe(
    Effect.scoped,
    Effect.catch((error) => Effect.sync(() => unreachable(ledger, visit, error)))
  )

/** Subscriptions of a database that is to be dropped. */
const before = (ledger: Ledger, system: Session, operations: ReadonlyArray<Operation>, options: ApplyOptions) =>
  Effect.gen(function* () {
    yield* run(
      ledger,
      system,
      operations.filter(({ database }) => database === undefined)
    )
    const inside = operations.flatMap((operation) =>
      operation.database === undefined ? [] : [[operation.database, operation] as const]
    )
    yield* Effect.forEach(
      inside,
      ([database, operation]) =>
        openSession(options.limits, database).pipe(
          Effect.flatMap((session) => run(ledger, session, [operation])),
          Effect.scoped,
          Effect.catch((error) => Effect.sync(() => fail(ledger, operation, error)))
        ),
      { concurrency: options.concurrency, discard: true }
    )
  })

/** Leaves out of what is remembered the databases in which something failed. */
const onlyDone = (ledger: Ledger, planned: Operation): ReadonlyArray<Operation> => {
  const { change } = planned
  if (change._tag === "RememberContents") {
    const fingerprints = change.fingerprints.filter(([database]) => !ledger.failed.has(contentsObject(database)))
    return fingerprints.length === 0 ? [] : [operation({ ...planned, change: { ...change, fingerprints } })]
  }
  if (change._tag === "EndDatabases") {
    const databases = change.databases.filter((database) => !ledger.failed.has(databaseObject(database)))
    return databases.length === 0 ? [] : [operation({ ...planned, change: { ...change, databases } })]
  }
  return [planned]
}

/** Sessions that create databases: more of them do not make it faster, each copy keeps a processor and the disk busy. */
const creators = 2

const isCreation = ({ change }: Operation): boolean => change._tag === "CreateDatabase"

const ownTemplate = /^template[01]$/iu

/** Made from a database that may be of this document, too: then their order counts. */
const isDerived = ({ change }: Operation): boolean =>
  change._tag === "CreateDatabase" &&
  change.database.options.some(({ name, value }) => /^template$/iu.test(name) && !ownTemplate.test(value ?? ""))

/** The system session takes one database after the other, and so do others as long as something is left for them. */
const create = (ledger: Ledger, system: Session, operations: ReadonlyArray<Operation>, options: ApplyOptions) =>
  Effect.gen(function* () {
    if (operations.some(isDerived)) return yield* run(ledger, system, operations)
    const left = [...operations]
    const work = (session: Session) =>
      Effect.gen(function* () {
        for (let next = left.shift(); next !== undefined; next = left.shift()) yield* run(ledger, session, [next])
      })
    const helper = openSession(options.limits).pipe(
      Effect.flatMap(work),
      Effect.scoped,
      Effect.catch((error) => Effect.logWarning(`databases are created by fewer sessions: ${error.message}`))
    )
    const helpers = Array.from({ length: Math.min(creators, operations.length) - 1 }, () => helper)
    yield* Effect.all([work(system), ...helpers], { concurrency: "unbounded", discard: true })
  })

const inSystem = (ledger: Ledger, system: Session, operations: ReadonlyArray<Operation>, options: ApplyOptions) =>
  Effect.gen(function* () {
    const first = operations.findIndex(isCreation)
    const last = operations.findLastIndex(isCreation)
    yield* run(ledger, system, operations.slice(0, Math.max(0, first)))
    if (first >= 0) yield* create(ledger, system, operations.slice(first, last + 1), options)
    // What failed so far decides what is left to note.
    yield* run(ledger, system, operations.slice(last + 1), (operation) => onlyDone(ledger, operation))
  })

/** A new verifier fits in most of the time; anything else may need room that the limits do not leave. */
const needsRoom = ({ operations, visits }: Plan): boolean =>
  visits.length > 0 || operations.some(({ change }) => change._tag !== "AlterRole")

const logSubscriptions = (desired: Desired, snapshot: Snapshot, visits: ReadonlyArray<Visit>) =>
  Effect.gen(function* () {
    if (!desired.dropSubscriptions) return
    yield* Effect.logInfo(
      `Checking if drop subscription operation was already performed for timeline_id: ${desired.timelineId}`
    )
    if (snapshot.subscriptionsDroppedFor === desired.timelineId) return
    for (const { dropSubscriptions } of visits) {
      if (!dropSubscriptions) continue
      yield* Effect.logInfo("Adding DropLogicalSubscriptions phase because drop_subscriptions_before_start is set")
    }
    yield* Effect.logInfo(
      "Adding FinalizeDropLogicalSubscriptions phase because drop_subscriptions_before_start is set"
    )
  })

const applyOn = Effect.fnUntraced(function* (system: Session, desired: Desired, options: ApplyOptions) {
  const snapshot = yield* readSystem(system, desired)
  if (snapshot.inRecovery) {
    return yield* new PgError({ message: "Postgres is in recovery, its catalogs cannot be changed", code: "25006" })
  }
  const planned = plan(snapshot, desired, options.mode)
  const liftLimits = options.liftLimits ?? Effect.succeed(false)
  const ledger = makeLedger(snapshot.systemDatabase, liftLimits)
  const stage = (name: Operation["stage"]) => planned.operations.filter((operation) => operation.stage === name)
  for (const warning of planned.warnings) yield* Effect.logWarning(warning)
  yield* logSubscriptions(desired, snapshot, planned.visits)
  if (needsRoom(planned)) yield* liftLimits
  yield* before(ledger, system, stage("before"), options)
  yield* inSystem(ledger, system, stage("system"), options)
  const visits = planned.visits.filter((visit) => canEnter(ledger, visit))
  yield* Effect.forEach(visits, (visit) => enter(ledger, desired, snapshot, visit, options), {
    concurrency: options.concurrency,
    discard: true
  })
  yield* run(ledger, system, stage("finish"), (operation) => onlyDone(ledger, operation))
  return { results: ledger.results, warnings: planned.warnings, migrationId: snapshot.migrationId }
})

/**
 * Applies a document in a session of the system database. Fails with `CatalogFailed`; what could be done is done all the
 * same.
 */
export const applyIn = Effect.fn("apply_spec_sql")(function* (
  system: Session,
  desired: Desired,
  options: ApplyOptions
): Effect.fn.Return<Applied, CatalogFailed, Sql> {
  const startedAt = yield* Clock.currentTimeMillis
  const concurrency = Math.max(1, options.concurrency)
  yield* Effect.logInfo(`Applying config with max ${concurrency} concurrency`)
  const { migrationId, results, warnings } = yield* Effect.mapError(
    applyOn(system, desired, { ...options, concurrency }),
    notRead
  )
  const made = report(
    { mode: options.mode, startedAt, millis: (yield* Clock.currentTimeMillis) - startedAt, warnings },
    results
  )
  const message = failureText(made)
  return message === undefined ? { ...made, migrationId } : yield* new CatalogFailed({ message, report: made })
})

const notRead = (cause: OverrideFailed | PgError) =>
  new CatalogFailed({
    message:
      cause._tag === "OverrideFailed"
        ? "the configuration of Postgres could not be changed for the work on the catalogs"
        : "the catalogs could not be read",
    report: undefined,
    cause
  })

/** Opens the session of the system database. Fails with `CatalogFailed`. */
export const openSystem = (limits?: Partial<Limits>) => Effect.mapError(openAsAdmin(limits), notRead)

/** Opens a session, applies a document in it and closes the session. */
export const apply = (desired: Desired, options: ApplyOptions) =>
  Effect.scoped(Effect.flatMap(openSystem(options.limits), (system) => applyIn(system, desired, options)))
