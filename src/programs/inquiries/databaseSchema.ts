/**
 * The schema of a database as SQL.
 *
 * The catalogs are asked first: the words in which Postgres and pg_dump say that a database does not exist depend on the
 * language of the server. Source: reference/http-api §7.8.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Stream from "effect/Stream"
import { literal } from "../../domain/catalog/quoting.ts"
import { Owner } from "../../layers/Owner.ts"
import { Params } from "../../layers/Params.ts"
import * as PgDump from "../../layers/PgDump.ts"
import { Sql } from "../../layers/Sql.ts"

export class NoSuchDatabase extends Data.TaggedError("NoSuchDatabase")<{ readonly database: string }> {
  override get message(): string {
    return "database does not exist"
  }
}

/** Text, because a name that is too long would be cut to that of another database. */
const isThere = (database: string): string =>
  `SELECT FROM pg_catalog.pg_database WHERE datname::pg_catalog.text OPERATOR(pg_catalog.=) ${literal(database)}::pg_catalog.text`

const requireDatabase = Effect.fnUntraced(function* (database: string) {
  const sql = yield* Sql
  const session = yield* sql.connect({ use: "get_database_schema" })
  const [found] = yield* session.query(isThere(database))
  if (found?.tag !== "SELECT 1") return yield* new NoSuchDatabase({ database })
}, Effect.scoped)

/** The first piece decides whether there is an answer; what fails after it breaks the stream off. */
const begun = <E>(source: Stream.Stream<Uint8Array, E>) =>
  Effect.gen(function* () {
    const pull = yield* Stream.toPull(source)
    const first = yield* Pull.catchDone(pull, () =>
      Effect.fail(new PgDump.PgDumpFailed({ message: "failed to execute pg_dump: it printed nothing" }))
    )
    return Stream.concat(Stream.fromIterable(first), Stream.fromPull(Effect.succeed(pull)))
  })

/** Plain SQL. The dump lives in the Scope. */
export const databaseSchema = Effect.fn("database_schema")(function* (database: string) {
  const { environment, pgbin, postgres } = yield* Params
  const { user } = yield* Owner
  yield* requireDatabase(database)
  return yield* begun(yield* PgDump.schema({ target: postgres, database, pgbin, environment, user }))
})
