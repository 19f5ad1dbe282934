/**
 * Brings an extension of a database to a version: creates it in schema `public`, or updates it.
 *
 * Source: reference/http-api §8.2.
 */
import * as Effect from "effect/Effect"
import { identifier, literal } from "../../domain/catalog/quoting.ts"
import type { Session } from "../../layers/PgWire.ts"
import { Sql } from "../../layers/Sql.ts"
import { doing } from "./doing.ts"

export interface Extension {
  readonly extension: string
  readonly database: string
  readonly version: string
}

/** Somebody else has created it since we looked. */
const alreadyThere = new Set(["23505", "42710"])

const versionOf = (session: Session, extension: string) => {
  const query = `SELECT extversion FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) ${literal(extension)}::pg_catalog.text`
  return doing(
    `Failed to execute query: ${query}`,
    Effect.map(session.query(query), ([found]) => found?.rows[0]?.[0] ?? undefined)
  )
}

const statementFor = ({ extension, version }: Extension, installed: string | undefined): string =>
  installed === undefined
    ? `CREATE EXTENSION IF NOT EXISTS ${identifier(extension)} WITH SCHEMA public VERSION ${identifier(version)}`
    : `ALTER EXTENSION ${identifier(extension)} UPDATE TO ${identifier(version)}`

/** The version that is installed then. What holds already is not touched, which works on a replica, too. */
export const installExtension = Effect.fn("install_extension")(function* (wish: Extension) {
  const sql = yield* Sql
  const session = yield* doing(
    "Failed to connect to the database",
    sql.connect({ use: "install_extension", database: wish.database })
  )
  const bring = (installed: string | undefined) => {
    const statement = statementFor(wish, installed)
    return doing(`Failed to execute query: ${statement}`, session.query(statement))
  }
  const installed = yield* versionOf(session, wish.extension)
  if (installed === wish.version) return wish.version
  yield* bring(installed).pipe(
    Effect.catchIf(
      ({ code = "" }) => installed === undefined && alreadyThere.has(code),
      () =>
        Effect.flatMap(versionOf(session, wish.extension), (now) =>
          now === wish.version ? Effect.void : Effect.asVoid(bring(now))
        )
    )
  )
  return wish.version
}, Effect.scoped)
