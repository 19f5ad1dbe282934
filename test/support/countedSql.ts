/** Sessions that are counted, with what goes through them. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { PostgresTarget } from "../../src/domain/ConnString.ts"
import { Sql } from "../../src/layers/Sql.ts"

export interface SqlCount {
  open: number
  /** The most that were open at once. */
  most: number
  opened: number
  /** Queries sent: each waits for its answer, so these are round trips. */
  messages: number
  /** Statements that were answered. */
  statements: number
}

export const sqlCount = (): SqlCount => ({ open: 0, most: 0, opened: 0, messages: 0, statements: 0 })

/** Begins anew; open sessions go on. */
export const restart = (count: SqlCount): void => {
  Object.assign(count, { most: count.open, opened: 0, messages: 0, statements: 0 })
}

export const countedSql = (target: PostgresTarget, count: SqlCount): Layer.Layer<Sql> =>
  Layer.effect(
    Sql,
    Effect.map(Effect.provide(Sql, Sql.to(target)), (sql) =>
      Sql.of({
        connect: (options) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              count.opened++
              count.most = Math.max(count.most, ++count.open)
            }),
            () => Effect.sync(() => count.open--)
          ).pipe(
            Effect.andThen(sql.connect(options)),
            Effect.map((session) => ({
              ...session,
              query: (text: string) => {
                count.messages++
                return Effect.tap(session.query(text), ({ length }) =>
                  Effect.sync(() => {
                    count.statements += length
                  })
                )
              }
            }))
          )
      })
    )
  )
