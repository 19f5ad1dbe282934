/** The plan of an apply, read-only: what would run, and why. */
import * as Effect from "effect/Effect"
import type { Desired } from "../../domain/catalog/Desired.ts"
import { type Mode, plan } from "../../domain/catalog/plan.ts"
import { Sql } from "../../layers/Sql.ts"
import { readInside, readSystem } from "./apply.ts"

const concurrency = 4
const settings = { default_transaction_read_only: "on" }

/** Fails with what the server says; nothing is changed. */
export const preview = Effect.fn("preview_catalog")(function* (desired: Desired, mode: Mode) {
  const sql = yield* Sql
  const system = yield* sql.connect({ use: "apply_config", settings })
  const snapshot = yield* readSystem(system, desired)
  const { visits } = plan(snapshot, desired, mode)
  const contents = yield* Effect.forEach(
    visits.filter(({ isNew }) => !isNew),
    ({ database, liveName }) =>
      sql.connect({ use: "apply_config", database: liveName, settings }).pipe(
        Effect.flatMap((session) => readInside(session, desired)),
        Effect.map((found) => [database, found] as const),
        Effect.scoped
      ),
    { concurrency }
  )
  return { ...plan(snapshot, desired, mode, new Map(contents)), systemDatabase: snapshot.systemDatabase }
}, Effect.scoped)
