/**
 * The one table that remembers what was applied.
 *
 * A row belongs to a database, by oid, and to a timeline: a branch inherits the rows and finds them void. `fingerprint`
 * says what the work inside the database was done for, `delta_operations` which list of them made the database.
 * `unfinished`, on the row of the system database, names databases between their creation and their grant.
 */
import type { Desired, DesiredDatabase } from "./Desired.ts"
import { identifier, literal } from "./quoting.ts"
import type { Snapshot } from "./Snapshot.ts"

export const migrationSchema = "neon_migration"
export const stateTable = "neon_migration.catalog_state"

/** Schema and table; repeatable. */
export const prepareState = (admin: string): ReadonlyArray<string> => [
  `CREATE SCHEMA IF NOT EXISTS ${migrationSchema}`,
  `ALTER SCHEMA ${migrationSchema} OWNER TO ${identifier(admin)}`,
  `REVOKE ALL ON SCHEMA ${migrationSchema} FROM PUBLIC`,
  `CREATE TABLE IF NOT EXISTS ${stateTable} (` +
    "database pg_catalog.oid NOT NULL PRIMARY KEY, timeline_id pg_catalog.text NOT NULL, fingerprint pg_catalog.text," +
    " delta_operations pg_catalog.text, unfinished pg_catalog.text[]," +
    " applied_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now())"
]

const oidOf = (database: string): string =>
  `(SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) ${literal(database)}::pg_catalog.name)`

/** Sets a column of the rows of databases. What stood there for another timeline is void. */
const put = (
  timelineId: string,
  column: "fingerprint" | "delta_operations" | "unfinished",
  values: ReadonlyArray<readonly [database: string, value: string]>
): string => {
  const rows = values.map(([database, value]) => `(${literal(database)}, ${value})`)
  const others = ["fingerprint", "delta_operations", "unfinished"].filter((other) => other !== column)
  const same = "s.timeline_id OPERATOR(pg_catalog.=) excluded.timeline_id"
  return (
    `INSERT INTO ${stateTable} AS s (database, timeline_id, ${column})` +
    ` SELECT d.oid, ${literal(timelineId)}, v.value FROM (VALUES ${rows.join(", ")}) AS v (name, value)` +
    " JOIN pg_catalog.pg_database AS d ON d.datname OPERATOR(pg_catalog.=) v.name::pg_catalog.name" +
    ` ON CONFLICT (database) DO UPDATE SET timeline_id = excluded.timeline_id, ${column} = excluded.${column},` +
    ` ${others.map((other) => `${other} = CASE WHEN ${same} THEN s.${other} END`).join(", ")}, applied_at = pg_catalog.now()`
  )
}

/** Remembers the work done inside databases, and forgets databases that are gone. */
export const rememberDatabases = (
  timelineId: string,
  fingerprints: ReadonlyArray<readonly [database: string, fingerprint: string]>
): ReadonlyArray<string> => [
  put(
    timelineId,
    "fingerprint",
    fingerprints.map(([database, fingerprint]) => [database, literal(fingerprint)])
  ),
  `DELETE FROM ${stateTable} AS s WHERE NOT EXISTS` +
    ` (SELECT FROM pg_catalog.pg_database AS d WHERE d.oid OPERATOR(pg_catalog.=) s.database)`
]

/** What is remembered of the inside of a database is void. */
export const forgetContents = (database: string): string =>
  `UPDATE ${stateTable} SET fingerprint = NULL WHERE database OPERATOR(pg_catalog.=) ${oidOf(database)}`

/** Remembers that a list of delta operations has made the database what it is. */
export const rememberDeltas = (timelineId: string, database: string, deltas: string): string =>
  put(timelineId, "delta_operations", [[database, literal(deltas)]])

/** Remembers which databases are about to be created. */
export const rememberUnfinished = (timelineId: string, systemDatabase: string, names: ReadonlyArray<string>): string =>
  put(timelineId, "unfinished", [[systemDatabase, `ARRAY[${names.map(literal).join(", ")}]::pg_catalog.text[]`]])

/** Databases are complete. */
export const forgetUnfinished = (names: ReadonlyArray<string>): string =>
  `UPDATE ${stateTable} SET unfinished = NULLIF(ARRAY(SELECT u.name FROM pg_catalog.unnest(unfinished) AS u (name)` +
  ` WHERE NOT EXISTS (SELECT FROM (VALUES ${names.map((name) => `(${literal(name)})`).join(", ")}) AS v (name)` +
  ` WHERE v.name OPERATOR(pg_catalog.=) u.name)), ARRAY[]::pg_catalog.text[]) WHERE unfinished IS NOT NULL`

/** Raised when the work inside a database changes, so that it is done again everywhere. */
const workVersion = 1

/** What the work inside a database is done for. Any difference means that it is done again. */
export const fingerprint = (
  desired: Desired,
  database: DesiredDatabase,
  snapshot: Snapshot,
  migrations: number
): string => JSON.stringify([workVersion, desired.privilegedRole, database, migrations, snapshot.neonVersion ?? null])

/** The list of delta operations as it is remembered; undefined: there is none. */
export const deltaText = ({ deltas }: Desired): string | undefined =>
  deltas.length === 0 ? undefined : JSON.stringify(deltas)
