import * as fs from "node:fs/promises"
import { join } from "node:path"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as PgWire from "../../../src/layers/PgWire.ts"
import * as Catalog from "../../../src/programs/catalog/apply.ts"
import { hostileNames } from "../../domain/catalog/names.ts"
import { countedSql, restart, sqlCount } from "../../support/countedSql.ts"
import { major } from "../../support/postgres.ts"
import { databases, deleted, digest, owned, roles, verifier } from "./documents.ts"
import { type Document, desiredOf, Server } from "./server.ts"

/** Writes a file of the server and has it read again. */
const rewrite = (path: string, text: string, postmaster: number) =>
  Effect.promise(async () => {
    await fs.writeFile(path, text)
    process.kill(postmaster, "SIGHUP")
  })

layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })("apply", (it) => {
  it.effect("S-111 S-119 an empty document makes the service objects, and once only", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server.wiped
      const first = yield* apply({})
      assert.deepStrictEqual(first.counts, {
        create_schema_neon: 1,
        prepare_state: 1,
        create_privileged_role: 1,
        create_extension: 1,
        create_health_check: 1
      })
      assert.deepStrictEqual((yield* apply({})).results, [])
      assert.deepStrictEqual(
        yield* sql(
          "SELECT e.extversion, n.nspname FROM pg_extension e, pg_namespace n WHERE n.oid = extnamespace AND extname = 'neon'"
        ),
        [["1.6", "neon"]]
      )
      assert.deepStrictEqual(yield* column("SELECT id FROM public.health_check"), ["1"])
    })
  )

  it.effect("S-120 an extension that is behind, or elsewhere, is put right", () =>
    Effect.gen(function* () {
      const { apply, sql } = yield* Server.wiped
      yield* sql("DROP EXTENSION neon; CREATE EXTENSION neon SCHEMA public VERSION '1.0'")
      const { counts } = yield* apply({})
      assert.deepStrictEqual(counts, { relocate_neon: 1, update_extension: 1 })
      assert.deepStrictEqual(
        yield* sql("SELECT extversion, extnamespace::regnamespace FROM pg_extension WHERE extname = 'neon'"),
        [["1.6", "neon"]]
      )
    })
  )

  it.effect(
    "S-100 names of every kind are created, read back and dropped",
    () =>
      Effect.gen(function* () {
        const { apply, column } = yield* Server.wiped
        yield* apply(owned(hostileNames))
        const wanted = hostileNames.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
        assert.deepStrictEqual(yield* column(databases), wanted)
        assert.deepStrictEqual(yield* column(roles), wanted)
        for (const name of hostileNames.slice(0, 6)) {
          assert.deepStrictEqual(yield* column("SELECT current_database() || current_user", name, name), [name + name])
        }
        assert.deepStrictEqual((yield* apply(owned(hostileNames))).results, [])
        const { failures } = yield* apply(deleted(hostileNames))
        assert.deepStrictEqual(failures, [])
        assert.deepStrictEqual(yield* column(databases), [])
        assert.deepStrictEqual(yield* column(roles), [])
      }),
    120_000
  )

  it.effect("an unchanged document costs one statement on one connection, a changed one at most its budget", () =>
    Effect.gen(function* () {
      const { apply, target } = yield* Server.wiped
      const document = owned(["one", "two", "three"])
      const count = sqlCount()
      const run = (concurrency: number) =>
        Catalog.apply(desiredOf(document), { mode: "incremental", concurrency }).pipe(
          Effect.provide(countedSql(target, count))
        )
      yield* run(2)
      assert.strictEqual(count.most, 3)
      // One for the system database, one more that creates, one in each database.
      assert.strictEqual(count.opened, 5)
      restart(count)
      yield* run(2)
      assert.deepStrictEqual([count.opened, count.messages, count.statements], [1, 1, 1])
      yield* apply(deleted(["one", "two", "three"]))
      // Databases are created side by side all the same.
      restart(count)
      yield* run(1)
      assert.deepStrictEqual([count.opened, count.most], [5, 2])
    })
  )

  it.effect("S-093 a role logs in with the password behind its verifier, and reaches its database", () =>
    Effect.gen(function* () {
      const { apply, column, pgdata, pid, sql, target } = yield* Server.wiped
      yield* sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE model PASSWORD 'secret'")
      const [made] = yield* column("SELECT rolpassword FROM pg_authid WHERE rolname = 'model'")
      yield* apply({
        roles: [{ name: "alice", encrypted_password: made }],
        databases: [{ name: "app", owner: "alice" }]
      })
      const access = join(pgdata, "pg_hba.conf")
      const before = yield* Effect.promise(() => fs.readFile(access, "utf8"))
      yield* rewrite(access, `local all alice scram-sha-256\n${before}`, pid())
      const logIn = (password: string) =>
        Effect.scoped(
          PgWire.connect({
            target: { ...target, user: "alice", database: "app" },
            password: Redacted.make(password)
          }).pipe(Effect.flatMap((session) => session.query("SELECT current_user || ' ' || current_database()")))
        )
      yield* Effect.gen(function* () {
        // The postmaster reads the file when it gets to it.
        const refused = yield* Effect.flip(logIn("wrong")).pipe(
          Effect.retry(Schedule.spaced("10 millis")),
          Effect.timeout("10 seconds")
        )
        assert.strictEqual(refused.code, "28P01")
        const [answer] = yield* logIn("secret")
        assert.deepStrictEqual(answer?.rows, [["alice app"]])
      }).pipe(Effect.ensuring(rewrite(access, before, pid())))
    })
  )

  it.effect("S-095 S-096 S-110 a new role has its attributes, its membership, and its verifier as it is stored", () =>
    Effect.gen(function* () {
      const { apply, sql } = yield* Server.wiped
      const jwks = [{ id: "1", role_names: ["authenticated"], jwks_url: "http://x", provider_name: "p" }]
      yield* apply({
        roles: [
          { name: "plain", encrypted_password: null },
          { name: "digested", encrypted_password: digest },
          { name: "salted", encrypted_password: verifier("A") },
          { name: "authenticated" }
        ],
        more: { local_proxy_config: { jwks } }
      })
      assert.deepStrictEqual(
        yield* sql(
          "SELECT rolname, rolcanlogin, rolinherit, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication, rolsuper," +
            " EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid AND roleid = 'neon_superuser'::regrole), rolpassword" +
            " FROM pg_authid AS r WHERE rolname IN ('plain', 'digested', 'salted', 'authenticated') ORDER BY rolname"
        ),
        [
          ["authenticated", "t", "t", "f", "f", "f", "f", "f", "f", null],
          ["digested", "t", "t", "t", "t", "t", "t", "f", "t", `md5${digest}`],
          ["plain", "t", "t", "t", "t", "t", "t", "f", "t", null],
          ["salted", "t", "t", "t", "t", "t", "t", "f", "t", verifier("A")]
        ]
      )
    })
  )

  it.effect("S-097 options of a new database are those of the document", () =>
    Effect.gen(function* () {
      const { apply, sql } = yield* Server.wiped
      const options = [
        { name: "LC_COLLATE", value: "C", vartype: "string" },
        { name: "LC_CTYPE", value: "C", vartype: "string" },
        { name: "TEMPLATE", value: "template0", vartype: "enum" }
      ]
      yield* apply({ roles: [{ name: "alexk" }], databases: [{ name: "DB2", owner: "alexk", options }] })
      assert.deepStrictEqual(
        yield* sql("SELECT datcollate, datctype, datdba::regrole FROM pg_database WHERE datname = 'DB2'"),
        [["C", "C", "alexk"]]
      )
    })
  )

  it.effect("S-101 deleting what is not there sends nothing", () =>
    Effect.gen(function* () {
      const { apply } = yield* Server.wiped
      assert.deepStrictEqual((yield* apply(deleted(["nonexistent"]))).results, [])
    })
  )

  it.effect("S-108 the privileged role has its rights on a new database and on what comes into it", () =>
    Effect.gen(function* () {
      const { apply, sql } = yield* Server.wiped
      yield* apply(owned(["app"]))
      yield* sql("CREATE TABLE public.t (x int); CREATE SEQUENCE public.s", "app")
      assert.deepStrictEqual(
        yield* sql(
          "SELECT has_database_privilege('neon_superuser', 'app', 'CREATE, CONNECT, TEMPORARY')," +
            " has_table_privilege('neon_superuser', 'public.t', 'DELETE WITH GRANT OPTION')," +
            " has_sequence_privilege('neon_superuser', 'public.s', 'USAGE WITH GRANT OPTION')",
          "app"
        ),
        [["t", "t", "t"]]
      )
    })
  )

  it.effect("S-109 schema public belongs to the owner of its database, from 15 on by way of pg_database_owner", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server.wiped
      yield* apply(owned(["app"]))
      const owner = column("SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'public'", "app")
      assert.deepStrictEqual(yield* owner, [major >= 15 ? "pg_database_owner" : "app"])
      yield* sql("ALTER SCHEMA public OWNER TO cloud_admin", "app")
      assert.deepStrictEqual((yield* apply(owned(["app"]))).results, [], "the inside is known")
      assert.deepStrictEqual((yield* apply(owned(["app"]), { mode: "full" })).counts, {
        own_public_schema: 1
      })
      assert.deepStrictEqual(yield* owner, ["app"])
      yield* sql("DROP SCHEMA public CASCADE", "app")
      yield* apply(owned(["app"]), { mode: "full" })
    })
  )

  it.effect("S-085 one object that fails does not keep the others from being made, and is named", () =>
    Effect.gen(function* () {
      const { apply, column } = yield* Server.wiped
      const document: Document = {
        roles: [
          { name: "good" },
          { name: "bad", options: [{ name: "CREATEDB", value: null, vartype: "bool" }] },
          { name: "pg_reserved" }
        ],
        databases: [
          { name: "of_bad", owner: "bad" },
          { name: "of_good", owner: "good" }
        ]
      }
      const { message, report } = yield* Effect.flip(apply(document))
      assert.deepStrictEqual(
        report?.failures.map(({ object, operation, outcome, sqlstate }) => [operation, object, outcome, sqlstate]),
        [
          ["create_role", 'role "bad"', "failed", "42601"],
          ["create_role", 'role "pg_reserved"', "failed", "42939"],
          ["create_database", 'database "of_bad"', "skipped", undefined],
          ["finish_database", 'database "of_bad"', "skipped", undefined]
        ]
      )
      assert.include(message, 'create_role role "bad"')
      assert.deepStrictEqual(yield* column(databases), ["of_good"])
    })
  )

  it.effect("a crash between the creation of a database and its grant is made good", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server.wiped
      yield* apply({})
      yield* sql(
        "INSERT INTO neon_migration.catalog_state (database, timeline_id, unfinished) SELECT oid, '', '{half}' FROM pg_database WHERE datname = 'postgres'" +
          " ON CONFLICT (database) DO UPDATE SET unfinished = excluded.unfinished; CREATE ROLE half"
      )
      yield* sql("CREATE DATABASE half OWNER half")
      const { counts } = yield* apply({ roles: [{ name: "half" }], databases: [{ name: "half", owner: "half" }] })
      assert.strictEqual(counts["finish_database"], 1)
      assert.deepStrictEqual(yield* column("SELECT has_database_privilege('neon_superuser', 'half', 'CREATE')"), ["t"])
    })
  )
})

layer(Server.vanilla, { excludeTestServices: true, timeout: 60_000 })(
  "apply on a server without the extension",
  (it) => {
    it.effect("the extension is left out with a warning", () =>
      Effect.gen(function* () {
        const { apply } = yield* Server.wiped
        const { failures, warnings } = yield* apply({})
        assert.deepStrictEqual(failures, [])
        assert.deepStrictEqual(warnings, ['extension "neon" is not available on this server, going on without it'])
      })
    )

    it.effect("S-117 the privileged role can have another name", () =>
      Effect.gen(function* () {
        const { apply, column } = yield* Server.wiped
        yield* apply(owned(["x"]), { privilegedRole: "my_superuser" })
        assert.deepStrictEqual(
          yield* column("SELECT m.roleid::regrole FROM pg_auth_members m WHERE m.member = 'x'::regrole"),
          ["my_superuser"]
        )
      })
    )
  }
)
