/** Says what was being done when Postgres refused. */
import * as Effect from "effect/Effect"
import { PgError } from "../../layers/PgWire.ts"

export const doing = <A, R>(what: string, work: Effect.Effect<A, PgError, R>): Effect.Effect<A, PgError, R> =>
  Effect.mapError(work, (error) => new PgError({ ...error, message: `${what}: ${error.message}` }))
