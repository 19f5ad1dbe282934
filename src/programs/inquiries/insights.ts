/**
 * The statements that take longest, as `pg_stat_statements` counts them. Those of our own superuser are left out.
 *
 * Source: reference/http-api §7.10.
 */
import * as Effect from "effect/Effect"
import { Sql } from "../../layers/Sql.ts"

const slowest =
  "SELECT pg_catalog.row_to_json(s) FROM public.pg_stat_statements s" +
  " WHERE userid OPERATOR(pg_catalog.<>) 'cloud_admin'::pg_catalog.regrole::pg_catalog.oid" +
  " ORDER BY mean_exec_time OPERATOR(pg_catalog.+) mean_plan_time DESC LIMIT 100"

/** There is no such view, or its library is not loaded: nothing is counted on this server. */
const notCounted = new Set(["42P01", "55000"])

/** At most 100 rows, each as JSON text: identifiers of 64 bits would not survive being parsed. */
export const insights = Effect.fn("collect_insights")(function* () {
  const sql = yield* Sql
  const session = yield* sql.connect({ use: "collect_insights" })
  const rows = yield* session.query(slowest).pipe(
    Effect.map(([set]) => set?.rows ?? []),
    Effect.catchIf(
      ({ code = "" }) => notCounted.has(code),
      () => Effect.succeed([])
    )
  )
  return rows.flatMap(([row]) => (row === null || row === undefined ? [] : [row]))
}, Effect.scoped)
