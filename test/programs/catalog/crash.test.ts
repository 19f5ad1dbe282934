/** An apply whose connections break after so many messages, and the apply after it. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { PgError } from "../../../src/layers/PgWire.ts"
import { Sql } from "../../../src/layers/Sql.ts"
import * as Catalog from "../../../src/programs/catalog/apply.ts"
import { takePicture } from "./picture.ts"
import { type Document, desiredOf, Server } from "./server.ts"

const digest = "2e7535f355c639573f1853ccec7a03d0"

const before: Document = {
  roles: [{ name: "keep" }, { name: "old", encrypted_password: digest }, { name: "gone" }],
  databases: [
    { name: "renamed from", owner: "gone" },
    { name: "dropped", owner: "gone" }
  ]
}

const wanted: Document = {
  roles: [{ name: "keep", encrypted_password: digest }, { name: "new", encrypted_password: digest }, { name: "more" }],
  databases: [
    { name: "renamed to", owner: "keep" },
    { name: "dropped", owner: "more" },
    { name: "made", owner: "new" }
  ],
  deltas: [
    { action: "delete_db", name: "dropped" },
    { action: "rename_db", name: "renamed from", new_name: "renamed to" },
    { action: "rename_role", name: "old", new_name: "new" },
    { action: "delete_role", name: "gone" }
  ]
}

const wipe: Document = {
  deltas: [
    ...["renamed from", "renamed to", "dropped", "made"].map((name) => ({ action: "delete_db", name })),
    ...["keep", "old", "new", "gone", "more"].map((name) => ({ action: "delete_role", name }))
  ]
}

const prepare = Effect.gen(function* () {
  const { apply, sql } = yield* Server
  yield* apply(wipe)
  yield* apply(before)
  yield* sql(
    "CREATE TABLE public.t AS SELECT 1 AS x; ALTER TABLE public.t OWNER TO gone; GRANT SELECT ON public.t TO keep",
    "renamed from"
  )
})

/** Sessions that break after a number of messages, all of them together. */
const breaking = (limit: number) =>
  Layer.effect(
    Sql,
    Effect.gen(function* () {
      const { target } = yield* Server
      const sql = yield* Effect.provide(Sql, Sql.to(target))
      let sent = 0
      return Sql.of({
        connect: (options) =>
          Effect.map(sql.connect(options), (session) => ({
            ...session,
            query: (text: string) =>
              sent++ < limit ? session.query(text) : Effect.fail(new PgError({ message: "the connection broke" }))
          }))
      })
    })
  )

layer(Server.vanilla, { excludeTestServices: true, timeout: 60_000 })("a crash", (it) => {
  it.effect(
    "after any prefix of the operations, and then an apply, end like an apply without a crash",
    () =>
      Effect.gen(function* () {
        const { apply, column } = yield* Server
        yield* prepare
        yield* apply(wanted)
        const whole = yield* takePicture
        let crashed = true
        for (let limit = 1; crashed; limit++) {
          yield* prepare
          const result = yield* Effect.result(
            Catalog.apply(desiredOf(wanted), { mode: "incremental", concurrency: 1 }).pipe(
              Effect.provide(breaking(limit))
            )
          )
          crashed = Result.isFailure(result)
          if (limit === 1) assert.isTrue(crashed)
          yield* apply(wanted)
          assert.deepStrictEqual(yield* takePicture, whole, `after ${limit} messages`)
          assert.deepStrictEqual(
            yield* column("SELECT tableowner FROM pg_tables WHERE tablename = 't'", "renamed to"),
            ["keep"]
          )
          assert.deepStrictEqual((yield* apply(wanted)).results, [], `after ${limit} messages`)
        }
      }),
    180_000
  )
})
