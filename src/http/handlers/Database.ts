/** Questions that Postgres answers. Source: reference/http-api §7.7–§7.10. */
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import { ComputeNode } from "../../layers/ComputeNode.ts"
import { Owner } from "../../layers/Owner.ts"
import { Params } from "../../layers/Params.ts"
import { Sql } from "../../layers/Sql.ts"
import { catalogObjects } from "../../programs/inquiries/catalogObjects.ts"
import { checkWritability } from "../../programs/inquiries/checkWritability.ts"
import * as E from "../api/Errors.ts"
import { ExternalApi } from "../api/ExternalApi.ts"
import { refusedBySql, requireRunning } from "./gate.ts"

export const layerDatabase = HttpApiBuilder.group(ExternalApi, "database", (handlers) =>
  Effect.gen(function* () {
    const running = requireRunning(yield* ComputeNode)
    const sql = yield* Sql
    const params = yield* Params
    const owner = yield* Owner

    return handlers
      .handle("checkWritability", () =>
        Effect.andThen(
          running,
          checkWritability().pipe(
            Effect.provideService(Sql, sql),
            Effect.mapError(({ message }) => new E.InternalError({ message }))
          )
        )
      )
      .handle("schema", ({ query }) =>
        Effect.gen(function* () {
          const { databaseSchema } = yield* Effect.promise(() => import("../../programs/inquiries/databaseSchema.ts"))
          return yield* databaseSchema(query.database)
        }).pipe(
          Effect.provideService(Sql, sql),
          Effect.provideService(Params, params),
          Effect.provideService(Owner, owner),
          Effect.mapError((error) => {
            if (error._tag === "PgError") return refusedBySql()(error)
            const { message } = error
            return error._tag === "NoSuchDatabase" ? new E.NotFound({ message }) : new E.InternalError({ message })
          })
        )
      )
      .handle("catalogObjects", () =>
        catalogObjects().pipe(Effect.provideService(Sql, sql), Effect.mapError(refusedBySql()))
      )
      .handle("insights", () =>
        Effect.gen(function* () {
          yield* running
          const { insights } = yield* Effect.promise(() => import("../../programs/inquiries/insights.ts"))
          const rows = yield* insights().pipe(Effect.provideService(Sql, sql), Effect.mapError(refusedBySql()))
          return HttpServerResponse.text(`{"pg_stat_statements":[${rows.join(",")}]}`, {
            contentType: "application/json"
          })
        })
      )
  })
)
