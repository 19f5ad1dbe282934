/** An apply that is broken off: by the end of our process, of its sessions, or of the server. Then another apply. */
import { assert, layer } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { Sql } from "../../../src/layers/Sql.ts"
import * as Catalog from "../../../src/programs/catalog/apply.ts"
import { AnyDocument } from "../../domain/catalog/anyDocument.ts"
import { runs } from "../../support/postgres.ts"
import { deleteDatabases, deleteRoles, digest } from "./documents.ts"
import { takePicture } from "./picture.ts"
import { type Document, desiredOf, Server } from "./server.ts"

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
    ...deleteDatabases(["dropped"]),
    { action: "rename_db", name: "renamed from", new_name: "renamed to" },
    { action: "rename_role", name: "old", new_name: "new" },
    ...deleteRoles(["gone"])
  ]
}

const prepare = Effect.gen(function* () {
  const server = yield* Server.wiped
  yield* server.apply(before)
  yield* server.sql(
    "CREATE TABLE public.t AS SELECT 1 AS x; ALTER TABLE public.t OWNER TO gone; GRANT SELECT ON public.t TO keep",
    "renamed from"
  )
  return server
})

const ours = "FROM pg_stat_activity WHERE application_name LIKE 'compute_ctl:%'"

const End = Schema.Literals(["process", "sessions", "server", "shutdown"])
type End = typeof End.Type

/** What happens to the server; nothing when our own process ends. */
const ends: Readonly<Record<End, Effect.Effect<unknown, unknown, Server>>> = {
  process: Effect.void,
  sessions: Effect.flatMap(Server, ({ sql }) => sql(`SELECT pg_terminate_backend(pid) ${ours}`)),
  server: Effect.flatMap(Server, ({ kill, start }) => Effect.andThen(kill("SIGKILL"), start)),
  shutdown: Effect.flatMap(Server, ({ kill, start }) => Effect.andThen(kill("SIGQUIT"), start))
}
/** Sessions that all count their messages; something happens while the server works on one of them. */
const counting = (at: number, happens: Effect.Effect<unknown, unknown>) =>
  Effect.gen(function* () {
    const { target } = yield* Server
    const sql = yield* Effect.provide(Sql, Sql.to(target))
    const sent = { count: 0 }
    const counted = Sql.of({
      connect: (options) =>
        Effect.map(sql.connect(options), (session) => ({
          ...session,
          query: (text: string) =>
            ++sent.count === at
              ? Effect.map(
                  Effect.all([session.query(text), Effect.uninterruptible(Effect.orDie(happens))], {
                    concurrency: "unbounded"
                  }),
                  ([answer]) => answer
                )
              : session.query(text)
        }))
    })
    return { sent, layer: Layer.succeed(Sql, counted) }
  })

const options = { mode: "incremental", concurrency: 2 } as const

/** An apply during which something happens. It ends, one way or the other. */
const crash = Effect.fnUntraced(function* (document: Document, at: number, end: End) {
  const server = yield* Server
  const reached = yield* Deferred.make<void>()
  const happens = Effect.andThen(Effect.provideService(ends[end], Server, server), Deferred.succeed(reached, undefined))
  const { layer: sql } = yield* counting(at, happens)
  const applying = Effect.exit(Effect.provide(Catalog.apply(desiredOf(document), options), sql))
  yield* end === "process" ? Effect.race(applying, Deferred.await(reached)) : applying
  // Whoever is started anew finds nobody left of the run before.
  const left = server.column(`SELECT count(*) ${ours}`)
  yield* Effect.timeout(Effect.repeat(left, { until: ([count]) => count === "0" }), "20 seconds")
})

layer(Server.vanilla, { excludeTestServices: true, timeout: 60_000 })("a crash", (it) => {
  let whole: Effect.Success<ReturnType<typeof takePicture>> | undefined
  let messages = 0

  it.effect("without one, the document is applied", () =>
    Effect.gen(function* () {
      const server = yield* prepare
      const { layer: sql, sent } = yield* counting(0, Effect.void)
      yield* Effect.provide(Catalog.apply(desiredOf(wanted), options), sql)
      whole = yield* takePicture(server)
      messages = sent.count
      assert.isAbove(messages, 12)
    })
  )

  it.effect.prop(
    "during any message, and then an apply, end like an apply without a crash",
    [Arbitrary.schema(Schema.Natural), Arbitrary.schema(End)],
    ([at, end]) =>
      Effect.gen(function* () {
        const { apply, column } = yield* prepare
        yield* crash(wanted, 1 + (at % messages), end)
        yield* apply(wanted)
        assert.deepStrictEqual(yield* takePicture(yield* Server), whole)
        assert.deepStrictEqual(yield* column("SELECT tableowner FROM pg_tables WHERE tablename = 't'", "renamed to"), [
          "keep"
        ])
        assert.deepStrictEqual((yield* apply(wanted)).results, [])
      }),
    { arbitrary: { runs: runs(5) }, timeout: 300_000 }
  )

  it.effect.prop(
    "during any message of any document is made good by the next apply",
    [AnyDocument, AnyDocument, Arbitrary.schema(Schema.Natural), Arbitrary.schema(End)],
    ([{ deltas: _, ...first }, document, at, end]) =>
      Effect.gen(function* () {
        const server = yield* Server.wiped
        yield* server.apply(first)
        const { layer: sql, sent } = yield* counting(0, Effect.void)
        yield* Effect.provide(Catalog.apply(desiredOf(document), options), sql)
        const made = yield* takePicture(server)
        yield* Server.wiped
        yield* server.apply(first)
        yield* crash(document, 1 + (at % sent.count), end)
        yield* server.apply(document)
        assert.deepStrictEqual(yield* takePicture(server), made)
      }),
    { arbitrary: { runs: runs(2) }, timeout: 300_000 }
  )
})
