/**
 * The migrations, once for each cluster, each in one transaction with the mark that it ran.
 *
 * The first failure ends the run; the next run goes on at the same number. Source: reference/catalog §13.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { type Migration, migrations } from "../../domain/catalog/migrations.ts"
import { literal } from "../../domain/catalog/quoting.ts"
import { migrationSchema } from "../../domain/catalog/stateTable.ts"
import { describeLine } from "../../domain/describe.ts"
import * as Failpoints from "../../layers/Failpoints.ts"
import { PgError, type Session } from "../../layers/PgWire.ts"
import { Sql } from "../../layers/Sql.ts"

/** A migration did not run; nothing of it remains. */
export class MigrationFailed extends Data.TaggedError("MigrationFailed")<{
  /** Undefined: none was tried. */
  readonly id: number | undefined
  readonly message: string
  readonly cause: unknown
}> {}

const table = `${migrationSchema}.migration_id`

const isPrepared = `SELECT pg_catalog.to_regclass(${literal(table)}) IS NOT NULL`

const prepare = [
  `CREATE SCHEMA IF NOT EXISTS ${migrationSchema}`,
  `CREATE TABLE IF NOT EXISTS ${table} (key pg_catalog.int4 NOT NULL PRIMARY KEY, id pg_catalog.int8 NOT NULL DEFAULT 0)`,
  `INSERT INTO ${table} VALUES (0, 0) ON CONFLICT DO NOTHING`,
  `ALTER SCHEMA ${migrationSchema} OWNER TO CURRENT_USER`,
  `REVOKE ALL ON SCHEMA ${migrationSchema} FROM PUBLIC`
].join(";\n")

const failed = (id: number | undefined, doing: string) => (cause: unknown) =>
  new MigrationFailed({ id, message: doing, cause })

const readId = Effect.fnUntraced(function* (session: Session) {
  const [prepared] = yield* session.query(isPrepared)
  if (prepared?.rows[0]?.[0] !== "t") {
    yield* Effect.mapError(session.query(prepare), failed(undefined, "prepare database to handle migrations"))
  }
  const [answer] = yield* session.query(`SELECT id FROM ${table}`)
  const id = answer?.rows.length === 1 ? Number(answer.rows[0]?.[0]) : Number.NaN
  return Number.isInteger(id)
    ? id
    : yield* new PgError({ message: `${table} has ${answer?.rows.length ?? 0} rows instead of one with a number` })
})

const runOne = (session: Session, { id, sql }: Migration) =>
  Effect.gen(function* () {
    const step = (statement: string, doing: string) => Effect.mapError(session.query(statement), failed(id, doing))
    yield* Effect.logInfo(sql === undefined ? `Skipping migration id=${id}` : `Running migration id=${id}:\n${sql}`)
    yield* step("BEGIN", `begin transaction for migration ${id}`)
    if (sql !== undefined) yield* step(sql, `apply migration ${id}`)
    if ((yield* Failpoints.hit("compute-migration")) === String(id)) {
      yield* failed(id, `migration ${id} was configured to fail because of a failpoint`)(undefined)
    }
    yield* step(`UPDATE ${table} SET id = ${id}`, `update ${table} to ${id}`)
    yield* step("COMMIT", `commit transaction for migration ${id}`)
    yield* Effect.logInfo(`Finished migration id=${id}`)
  }).pipe(
    // A session that is gone has rolled back already.
    Effect.tapError(() => Effect.ignore(session.query("ROLLBACK")))
  )

/** Runs what has not run yet; the number of the last one. */
export const migrate = Effect.fn("handle_migrations", { root: true })(function* (privilegedRole: string) {
  yield* Effect.logInfo("handle migrations")
  const sql = yield* Sql
  const session = yield* Effect.mapError(
    sql.connect({ use: "migrations" }),
    failed(undefined, "Failed to connect to the compute for running migrations")
  )
  const list = migrations(privilegedRole)
  const done = yield* Effect.mapError(readId(session), (error) =>
    error._tag === "MigrationFailed" ? error : failed(undefined, "read the number of the last migration")(error)
  )
  for (const migration of list.slice(Math.max(0, done))) yield* runOne(session, migration)
  return Math.max(done, list.length)
}, Effect.scoped)

/** Runs the migrations beside everything else: what goes wrong is logged and counted, and tried again at the next start. */
export const migrateQuietly = (privilegedRole: string, onFailed: (id: number) => Effect.Effect<void>) =>
  migrate(privilegedRole).pipe(
    Effect.asVoid,
    Effect.catch((error) => {
      const text = describeLine(error)
      if (error.id === undefined) return Effect.logError(text)
      return Effect.logError(`Failed to run migration id=${error.id}: ${text}`).pipe(
        Effect.andThen(Effect.logError(`Failed to run migrations: ${text}`)),
        Effect.andThen(onFailed(error.id))
      )
    })
  )
