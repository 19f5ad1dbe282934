/** Brings the extension `neon` to the version that the server has. Source: reference/catalog §12.2, decision K7. */
import * as Effect from "effect/Effect"
import { describeLine } from "../../domain/describe.ts"
import { Sql } from "../../layers/Sql.ts"

const isOutdated =
  "SELECT e.extversion OPERATOR(pg_catalog.<>) a.default_version" +
  " FROM pg_catalog.pg_extension AS e, pg_catalog.pg_available_extensions AS a" +
  " WHERE e.extname OPERATOR(pg_catalog.=) 'neon'::pg_catalog.name AND a.name OPERATOR(pg_catalog.=) e.extname"

/** Nothing to do where it is not installed; a failure is logged. */
export const upgradeNeonQuietly = Effect.gen(function* () {
  const sql = yield* Sql
  const session = yield* sql.connect({ use: "post_apply_config" })
  const [outdated] = yield* session.query(isOutdated)
  if (outdated?.rows[0]?.[0] === "t") yield* session.query("ALTER EXTENSION neon UPDATE")
}).pipe(
  Effect.scoped,
  Effect.withSpan("handle_neon_extension_upgrade", { root: true }),
  Effect.catch((error) => Effect.logError(`error while post_apply_config: ${describeLine(error)}`))
)
