/** Whether rows can be written. Source: reference/http-api §7.7. */
import * as Effect from "effect/Effect"
import { Sql } from "../../layers/Sql.ts"

const diskFull = "53100"

const touch =
  "INSERT INTO public.health_check AS h VALUES (1, pg_catalog.now())" +
  " ON CONFLICT (id) DO UPDATE SET updated_at = pg_catalog.now()"

/** Writes a row. A full disk of the tenant counts as writable: the node is not to blame. */
export const checkWritability = Effect.fn("check_writability")(function* () {
  const sql = yield* Sql
  const session = yield* sql.connect({ use: "availability_checker" })
  yield* session.query(touch).pipe(
    Effect.catchIf(
      ({ code }) => code === diskFull,
      () => Effect.logWarning("Tenant disk is full")
    )
  )
  return true
}, Effect.scoped)
