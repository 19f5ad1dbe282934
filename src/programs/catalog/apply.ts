/**
 * Makes the catalogs agree with a document: one read, a plan, the operations, a report.
 *
 *     system database ─▶ databases that have to be entered, side by side ─▶ system database
 *
 * One connection stays on the system database; each database that is entered takes one more, at most `concurrency` at
 * once. A document that already holds costs the one read. Source: reference/catalog §4–§6, decisions K1–K7.
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
import { type Mode, plan } from "../../domain/catalog/plan.ts"
import { planContents, type Visit } from "../../domain/catalog/planContents.ts"
import { contentsQuery, snapshotQuery } from "../../domain/catalog/queries.ts"
import { failureText, type Report, report } from "../../domain/catalog/Report.ts"
import { readContents, readSnapshot } from "../../domain/catalog/reading.ts"
import type { Contents, Snapshot } from "../../domain/catalog/Snapshot.ts"
import { firstIssue } from "../../domain/schemaIssue.ts"
import { PgError, type Session } from "../../layers/PgWire.ts"
import { type Limits, Sql } from "../../layers/Sql.ts"
import { fail, type Ledger, makeLedger, run } from "./execute.ts"

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
}

/** Settings of every session that changes something: the extension does not report it to the control plane. */
const settings = { "neon.forward_ddl": "false" }

/** Opens a session for the work on the catalogs. */
export const openSession = (options: { readonly limits?: Partial<Limits> }, database?: string) =>
  Effect.flatMap(Sql, (sql) =>
    sql.connect({
      use: "apply_config",
      settings,
      ...(database === undefined ? {} : { database }),
      ...(options.limits === undefined ? {} : { limits: options.limits })
    })
  )

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
    const session = yield* openSession(options, visit.database)
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
        openSession(options, database).pipe(
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
  if (change._tag !== "RememberContents") return [planned]
  const fingerprints = change.fingerprints.filter(([database]) => !ledger.failed.has(contentsObject(database)))
  return fingerprints.length === 0 ? [] : [operation({ ...planned, change: { ...change, fingerprints } })]
}

const isCreation = ({ change }: Operation): boolean =>
  change._tag === "CreateDatabase" || change._tag === "FinishDatabase"

const ownTemplate = /^template[01]$/iu

/** Made from a database that may be of this document, too: then their order counts. */
const isDerived = ({ change }: Operation): boolean =>
  change._tag === "CreateDatabase" &&
  change.database.options.some(({ name, value }) => /^template$/iu.test(name) && !ownTemplate.test(value ?? ""))

/**
 * Databases are created side by side: the system session takes one after the other, and so do others as far as there is
 * something left for them. The operations of one database stay together.
 */
const create = (ledger: Ledger, system: Session, operations: ReadonlyArray<Operation>, options: ApplyOptions) =>
  Effect.gen(function* () {
    if (operations.some(isDerived)) return yield* run(ledger, system, operations)
    const groups = [...Map.groupBy(operations, ({ object }) => object).values()]
    const work = (session: Session) =>
      Effect.gen(function* () {
        for (let group = groups.shift(); group !== undefined; group = groups.shift()) yield* run(ledger, session, group)
      })
    const helper = openSession(options).pipe(
      Effect.flatMap(work),
      Effect.scoped,
      Effect.catch((error) => Effect.logWarning(`databases are created by fewer sessions: ${error.message}`))
    )
    const helpers = Array.from({ length: Math.min(options.concurrency, groups.length - 1) }, () => helper)
    yield* Effect.all([work(system), ...helpers], { concurrency: "unbounded", discard: true })
  })

const inSystem = (ledger: Ledger, system: Session, operations: ReadonlyArray<Operation>, options: ApplyOptions) =>
  Effect.gen(function* () {
    const first = operations.findIndex(isCreation)
    const last = operations.findLastIndex(isCreation)
    if (first < 0) return yield* run(ledger, system, operations)
    yield* run(ledger, system, operations.slice(0, first))
    yield* create(ledger, system, operations.slice(first, last + 1), options)
    yield* run(ledger, system, operations.slice(last + 1))
  })

const applyOn = Effect.fnUntraced(function* (system: Session, desired: Desired, options: ApplyOptions) {
  const snapshot = yield* readSystem(system, desired)
  if (snapshot.inRecovery) {
    return yield* new PgError({ message: "Postgres is in recovery, its catalogs cannot be changed", code: "25006" })
  }
  const planned = plan(snapshot, desired, options.mode)
  const ledger = makeLedger(snapshot.systemDatabase)
  const stage = (name: Operation["stage"]) => planned.operations.filter((operation) => operation.stage === name)
  for (const warning of planned.warnings) yield* Effect.logWarning(warning)
  yield* before(ledger, system, stage("before"), options)
  yield* inSystem(ledger, system, stage("system"), options)
  const visits = planned.visits.filter((visit) => canEnter(ledger, visit))
  yield* Effect.forEach(visits, (visit) => enter(ledger, desired, snapshot, visit, options), {
    concurrency: options.concurrency,
    discard: true
  })
  yield* run(
    ledger,
    system,
    stage("finish").flatMap((planned) => onlyDone(ledger, planned))
  )
  return { results: ledger.results, warnings: planned.warnings }
})

/** Applies a document. Fails with `CatalogFailed`; what could be done is done all the same. */
export const apply = Effect.fn("apply_spec_sql")(function* (desired: Desired, options: ApplyOptions) {
  const startedAt = yield* Clock.currentTimeMillis
  const concurrency = Math.max(1, options.concurrency)
  yield* Effect.logInfo(`Applying config with max ${concurrency} concurrency`)
  const { results, warnings } = yield* openSession(options).pipe(
    Effect.flatMap((system) => applyOn(system, desired, { ...options, concurrency })),
    Effect.scoped,
    Effect.mapError(
      (cause) => new CatalogFailed({ message: "the catalogs could not be read", report: undefined, cause })
    )
  )
  const made = report(
    { mode: options.mode, startedAt, millis: (yield* Clock.currentTimeMillis) - startedAt, warnings },
    results
  )
  const message = failureText(made)
  return message === undefined ? made : yield* new CatalogFailed({ message, report: made })
})
