/** Whether Postgres accepts connections, by making one. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { isUnreachable } from "../../layers/PgWire.ts"
import { Sql } from "../../layers/Sql.ts"

/** A Postgres that does not answer within this time counts as away. */
const probeTimeout = Duration.seconds(3)

/** Opens a session. */
export const openSession = Effect.gen(function* () {
  const sql = yield* Sql
  yield* sql.connect({ use: "health_probe", limits: { connect: probeTimeout } })
}).pipe(Effect.scoped)

/** As `pg_isready` asks: a server that refuses this session, for whatever reason, is alive. */
export const ping = Effect.catchIf(
  openSession,
  (error) => !isUnreachable(error),
  () => Effect.void
)
