/** What stands in the way of an apply: each is reported with its object, and the rest is done. */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { describeLine } from "../../../src/domain/describe.ts"
import * as PgWire from "../../../src/layers/PgWire.ts"
import type { CatalogFailed } from "../../../src/programs/catalog/apply.ts"
import { isQuick, major } from "../../support/postgres.ts"
import { databases, deleteDatabases, deleted, deleteRoles, owned, roles } from "./documents.ts"
import { takePicture } from "./picture.ts"
import { type Document, Server } from "./server.ts"

/** Writes a file of the server and has it read again. */
const rewrite = (path: string, text: string, postmaster: number) =>
  Effect.promise(async () => {
    await fs.writeFile(path, text)
    process.kill(postmaster, "SIGHUP")
  })

/** Operation, object, outcome and SQLSTATE of everything that was not done. */
const failuresOf = (failure: CatalogFailed) =>
  failure.report?.failures.map(({ object, operation, outcome, sqlstate }) => [operation, object, outcome, sqlstate])

layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })("hindrances", (it) => {
  it.effect("a lock that somebody holds fails the one database, within the deadline", () =>
    Effect.gen(function* () {
      const { apply, column, target } = yield* Server.wiped
      const document = owned(["free", "locked"])
      yield* apply(document)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const session = yield* PgWire.connect({ target: { ...target, database: "locked" } })
          yield* session.query("ALTER SCHEMA public OWNER TO cloud_admin")
          yield* session.query("BEGIN; LOCK TABLE pg_catalog.pg_namespace IN ACCESS EXCLUSIVE MODE")
          const { message } = yield* Effect.flip(
            apply(document, { mode: "full", limits: { lock: "200 millis", statement: "2 seconds" } })
          )
          assert.include(message, 'contents of database "locked"')
          assert.include(message, "55P03")
        })
      )
      assert.deepStrictEqual((yield* apply(document, { mode: "full" })).failures, [])
      assert.deepStrictEqual(yield* column(databases), ["free", "locked"])
    })
  )

  it.effect("a deadline of 17 that a database has does not end what waits longer", () =>
    Effect.gen(function* () {
      const { apply, connect, sql } = yield* Server.wiped
      yield* apply(owned(["slow"]))
      yield* sql("ALTER SCHEMA public OWNER TO cloud_admin", "slow")
      const session = yield* connect("slow")
      if (major >= 17) yield* sql("ALTER DATABASE slow SET transaction_timeout = '300ms'")
      yield* session.query("BEGIN; LOCK TABLE pg_catalog.pg_namespace IN EXCLUSIVE MODE")
      const applying = yield* Effect.forkScoped(apply(owned(["slow"]), { mode: "full" }))
      yield* Effect.sleep("700 millis")
      yield* session.query("COMMIT")
      assert.deepStrictEqual((yield* Fiber.join(applying)).counts, { own_public_schema: 1 })
    }).pipe(Effect.scoped)
  )

  it.effect("what belongs to the server itself is not deleted, and nothing of it changes", () =>
    Effect.gen(function* () {
      const server = yield* Server.wiped
      const { apply } = server
      yield* apply(owned(["app"]))
      const before = yield* takePicture(server)
      const deleting = yield* Effect.flip(
        apply({
          ...owned(["app"]),
          deltas: [...deleteRoles(["cloud_admin", "pg_monitor"]), ...deleteDatabases(["postgres"])]
        })
      )
      assert.deepStrictEqual(deleting.report?.counts, {})
      const renaming = yield* Effect.flip(
        apply({
          ...owned(["app"]),
          deltas: [
            { action: "rename_role", name: "cloud_admin", new_name: "other" },
            { action: "rename_db", name: "postgres", new_name: "other" }
          ]
        })
      )
      assert.deepStrictEqual(renaming.report?.counts, {})
      assert.deepStrictEqual(yield* takePicture(server), before)
    })
  )

  it.effect("K3 a role whose objects cannot be given away keeps all of them; others go", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server.wiped
      const document = owned(["app", "free"])
      yield* apply({ ...document, roles: [...(document.roles ?? []), { name: "stuck" }, { name: "loose" }] })
      yield* sql(
        "CREATE TABLE public.t (x int); ALTER TABLE public.t OWNER TO stuck; CREATE FUNCTION public.f() RETURNS event_trigger" +
          " LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION public.f();" +
          " ALTER ROLE stuck SUPERUSER; ALTER EVENT TRIGGER e OWNER TO stuck; ALTER ROLE stuck NOSUPERUSER",
        "app"
      )
      const failure = yield* Effect.flip(apply({ ...document, deltas: deleteRoles(["stuck", "loose"]) }))
      assert.deepStrictEqual(failuresOf(failure), [
        ["disown_role", 'dependents of role "stuck"', "failed", "42501"],
        ["drop_role", 'role "stuck"', "skipped", undefined]
      ])
      assert.deepStrictEqual(yield* column("SELECT tableowner FROM pg_tables WHERE tablename = 't'", "app"), ["stuck"])
      assert.deepStrictEqual(yield* column(roles), ["app", "free", "stuck"])
    })
  )

  it.effect("a database that cannot be dropped stays, and says why; others go", () =>
    Effect.gen(function* () {
      const { apply, column, connect, sql } = yield* Server.wiped
      yield* apply(owned(["prepared", "free"]))
      const session = yield* connect("prepared")
      yield* session.query("BEGIN")
      yield* session.query("CREATE TABLE public.t (x int)")
      yield* session.query("PREPARE TRANSACTION 'stays'")
      const failure = yield* Effect.flip(apply(deleted(["prepared", "free"])))
      assert.deepStrictEqual(failuresOf(failure), [
        ["drop_database", 'database "prepared"', "failed", "55006"],
        ["drop_role", 'role "prepared"', "failed", "2BP01"]
      ])
      assert.deepStrictEqual(yield* column(databases), ["prepared"])
      yield* sql("ROLLBACK PREPARED 'stays'", "prepared")
      assert.deepStrictEqual((yield* apply(deleted(["prepared", "free"]))).failures, [])
    }).pipe(Effect.scoped)
  )

  it.effect("a database that somebody uses is renamed once they have gone; others are renamed", () =>
    Effect.gen(function* () {
      const { apply, column, connect } = yield* Server.wiped
      yield* apply(owned(["used", "free"]))
      const document: Document = {
        roles: owned(["used", "free"]).roles ?? [],
        databases: [
          { name: "used2", owner: "used" },
          { name: "free2", owner: "free" }
        ],
        deltas: [
          { action: "rename_db", name: "used", new_name: "used2" },
          { action: "rename_db", name: "free", new_name: "free2" }
        ]
      }
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* connect("used")
          const failure = yield* Effect.flip(apply(document))
          assert.deepStrictEqual(failuresOf(failure), [["rename_database", 'database "used"', "failed", "55006"]])
          assert.deepStrictEqual(yield* column(databases), ["free2", "used"])
        })
      )
      assert.deepStrictEqual((yield* apply(document)).failures, [])
      assert.deepStrictEqual(yield* column(databases), ["free2", "used2"])
    })
  )

  // The server itself waits 5 s before it gives up.
  it.effect.skipIf(isQuick)("a template that somebody uses holds up the databases alone", () =>
    Effect.gen(function* () {
      const { apply, column, connect } = yield* Server.wiped
      yield* connect("template1")
      const failure = yield* Effect.flip(apply(owned(["app"])))
      assert.deepStrictEqual(failuresOf(failure), [
        ["create_database", 'database "app"', "failed", "55006"],
        ["finish_database", 'database "app"', "skipped", undefined]
      ])
      assert.deepStrictEqual(yield* column(roles), ["app"])
    }).pipe(Effect.scoped)
  )

  it.effect("a name that an open transaction is about to take fails alone, within the deadline", () =>
    Effect.gen(function* () {
      const { apply, column, connect } = yield* Server.wiped
      yield* apply({})
      const session = yield* connect()
      yield* session.query("BEGIN; CREATE ROLE theirs")
      const document = owned(["ours", "theirs"])
      const failure = yield* Effect.flip(apply(document, { limits: { lock: "200 millis" } }))
      assert.deepStrictEqual(failuresOf(failure), [
        ["create_role", 'role "theirs"', "failed", "55P03"],
        ["create_database", 'database "theirs"', "skipped", undefined],
        ["finish_database", 'database "theirs"', "skipped", undefined]
      ])
      assert.deepStrictEqual(yield* column(databases), ["ours"])
      yield* session.query("COMMIT")
      assert.deepStrictEqual((yield* apply(document)).counts["alter_role"], 1)
      assert.deepStrictEqual(yield* column(databases), ["ours", "theirs"])
    }).pipe(Effect.scoped)
  )

  it.effect("catalogs that somebody has locked as a whole end the apply within the deadlines", () =>
    Effect.gen(function* () {
      const { apply, connect } = yield* Server.wiped
      yield* apply({})
      const session = yield* connect()
      for (const table of ["pg_authid", "pg_database", "pg_db_role_setting"]) {
        yield* session.query(`BEGIN; LOCK TABLE pg_catalog.${table} IN ACCESS EXCLUSIVE MODE`)
        const limits = { connect: "300 millis", lock: "300 millis", statement: "300 millis" } as const
        const failure = yield* Effect.flip(apply(owned(["app"]), { limits }))
        assert.isUndefined(failure.report)
        assert.match(
          describeLine(failure),
          /^the catalogs could not be read: .*(?:was not ready within 300ms|timeout)/u
        )
        yield* session.query("ROLLBACK")
      }
      yield* session.query("BEGIN; LOCK TABLE pg_catalog.pg_authid, pg_catalog.pg_database IN SHARE MODE")
      const failure = yield* Effect.flip(apply(owned(["app"]), { limits: { lock: "200 millis" } }))
      assert.deepStrictEqual(failuresOf(failure), [
        ["create_role", 'role "app"', "failed", "55P03"],
        ["create_database", 'database "app"', "skipped", undefined],
        ["finish_database", 'database "app"', "skipped", undefined]
      ])
      yield* session.query("ROLLBACK")
      assert.deepStrictEqual((yield* apply(owned(["app"]))).failures, [])
    }).pipe(Effect.scoped)
  )

  it.effect("a database that lets nobody in is reported or left alone; others are done", () =>
    Effect.gen(function* () {
      const { apply, pgdata, pid, sql } = yield* Server.wiped
      const names = ["closed", "limited", "open", "rejected"]
      yield* apply(owned(names))
      for (const name of names) yield* sql("ALTER SCHEMA public OWNER TO cloud_admin", name)
      yield* sql("ALTER DATABASE closed ALLOW_CONNECTIONS false")
      yield* sql("ALTER DATABASE limited CONNECTION LIMIT 0")
      const answers = Effect.map(Effect.result(sql("SELECT 1", "rejected")), ({ _tag }) => _tag)
      const until = (wanted: "Success" | "Failure") =>
        Effect.timeout(Effect.repeat(answers, { until: (tag) => tag === wanted }), "10 seconds")
      const access = join(pgdata, "pg_hba.conf")
      const before = yield* Effect.promise(() => fs.readFile(access, "utf8"))
      yield* rewrite(access, `local rejected all reject\n${before}`, pid())
      yield* Effect.gen(function* () {
        yield* until("Failure")
        const failure = yield* Effect.flip(apply(owned(names), { mode: "full" }))
        assert.deepStrictEqual(failuresOf(failure), [
          ["enter_database", 'contents of database "rejected"', "failed", "28000"]
        ])
        assert.include(failure.message, "pg_hba.conf rejects connection")
        assert.deepStrictEqual(failure.report?.warnings, [
          'database "closed" does not allow connections, its contents are left alone'
        ])
        assert.deepStrictEqual(failure.report?.counts, { own_public_schema: 2 })
      }).pipe(Effect.ensuring(rewrite(access, before, pid())))
      yield* until("Success")
      yield* sql("ALTER DATABASE closed ALLOW_CONNECTIONS true")
      assert.deepStrictEqual((yield* apply(owned(names), { mode: "full" })).counts, { own_public_schema: 2 })
    })
  )

  it.effect("a server without a free connection is reported, database by database", () =>
    Effect.gen(function* () {
      const { apply, column, connect } = yield* Server.wiped
      const names = ["one", "two"]
      yield* apply(owned(names))
      const [limit] = yield* column("SHOW max_connections")
      // Those of the tests before may be leaving still.
      const patient = connect().pipe(Effect.retry(Schedule.spaced("20 millis")), Effect.timeout("10 seconds"))
      const session = yield* patient
      for (let open = 0; open < Number(limit) - 2; open++) yield* patient
      const failure = yield* Effect.flip(apply(owned([...names, "three"]), { mode: "full" }))
      assert.sameDeepMembers(
        [...(failuresOf(failure) ?? [])],
        [...names, "three"].map((name) => ["enter_database", `contents of database "${name}"`, "failed", "53300"])
      )
      const [found] = yield* session.query(databases)
      assert.deepStrictEqual(found?.rows.flat(), ["one", "three", "two"])
    }).pipe(Effect.scoped)
  )
})
