import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as PgWire from "../../../src/layers/PgWire.ts"
import * as Catalog from "../../../src/programs/catalog/apply.ts"
import { hostileNames } from "../../domain/catalog/names.ts"
import { countedSql, restart, sqlCount } from "../../support/countedSql.ts"
import { type Document, desiredOf, Server } from "./server.ts"

const verifier = (letter: string) =>
  `SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$${letter.repeat(43)}=:${"B".repeat(43)}=`

const owned = (names: ReadonlyArray<string>): Document => ({
  roles: names.map((name) => ({ name, encrypted_password: verifier("A") })),
  databases: names.map((name) => ({ name, owner: name }))
})

const deleted = (names: ReadonlyArray<string>): Document => ({
  deltas: [
    ...names.map((name) => ({ action: "delete_db", name })),
    ...names.map((name) => ({ action: "delete_role", name }))
  ]
})

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`

const databases = "SELECT datname FROM pg_database WHERE datname !~ '^(postgres|template.)$' ORDER BY 1"
const roles = "SELECT rolname FROM pg_roles WHERE rolname !~ '^(pg_|neon_superuser|cloud_admin)' ORDER BY 1"

layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })("apply", (it) => {
  it.effect("S-111 S-119 an empty document makes the service objects, and once only", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
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
      const { apply, sql } = yield* Server
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
        const { apply, column } = yield* Server
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
      const { apply, target } = yield* Server
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
      yield* apply(deleted(["one", "two", "three"]))
    })
  )

  it.effect("S-101 deleting what is not there sends nothing", () =>
    Effect.gen(function* () {
      const { apply } = yield* Server
      assert.deepStrictEqual((yield* apply(deleted(["nonexistent"]))).results, [])
    })
  )

  it.effect("S-098 S-099 drift of what the document states is put right, and nothing else", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
      const document = owned(["alice", "bob"])
      yield* apply(document)
      yield* sql(
        [
          "CREATE ROLE carol",
          "CREATE ROLE other NOLOGIN CONNECTION LIMIT 3",
          "GRANT other TO alice",
          "ALTER DATABASE alice OWNER TO carol",
          `ALTER ROLE alice PASSWORD '${verifier("C")}'`,
          "ALTER ROLE alice NOCREATEDB NOCREATEROLE CONNECTION LIMIT 7",
          "REVOKE neon_superuser FROM bob"
        ].join(";")
      )
      yield* sql("DROP DATABASE bob")
      yield* sql("CREATE DATABASE theirs OWNER other")
      const { counts } = yield* apply(document)
      assert.deepStrictEqual(counts, {
        alter_role: 1,
        alter_database_owner: 1,
        begin_databases: 1,
        create_database: 1,
        finish_database: 1,
        end_databases: 1,
        default_privileges: 2,
        remember_contents: 1
      })
      assert.deepStrictEqual(
        yield* sql(
          "SELECT rolcreatedb, rolconnlimit, rolpassword FROM pg_authid WHERE rolname = 'alice' UNION ALL SELECT NULL, rolconnlimit, NULL FROM pg_roles WHERE rolname = 'other'"
        ),
        [
          ["f", "7", verifier("A")],
          [null, "3", null]
        ]
      )
      assert.deepStrictEqual(
        yield* column(
          "SELECT datname || ' ' || datdba::regrole FROM pg_database WHERE datname !~ '^(postgres|template.)$' ORDER BY 1"
        ),
        ["alice alice", "bob bob", "theirs other"]
      )
      assert.deepStrictEqual(yield* column("SELECT pg_has_role('bob', 'neon_superuser', 'member'), 1"), ["f"])
      assert.deepStrictEqual((yield* apply(document)).results, [])
      yield* sql("DROP DATABASE theirs")
      yield* sql("DROP ROLE other, carol")
      yield* apply(deleted(["alice", "bob"]))
    })
  )

  it.effect("S-117 whatever is changed on the privileged role is put right", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
      const state =
        "SELECT rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit, rolpassword, coalesce(rolvaliduntil, 'infinity')" +
        " FROM pg_authid WHERE rolname = 'neon_superuser'"
      const right = yield* sql(state)
      assert.deepStrictEqual(right, [["f", "t", "t", "t", "f", "t", "t", "-1", null, "infinity"]])
      const changes = [
        "ALTER ROLE neon_superuser SUPERUSER",
        "ALTER ROLE neon_superuser NOINHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS",
        "ALTER ROLE neon_superuser CONNECTION LIMIT 1 VALID UNTIL '2020-01-01' PASSWORD 'x'",
        "REVOKE pg_read_all_data, pg_write_all_data FROM neon_superuser",
        "GRANT pg_read_all_data TO neon_superuser WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
        "GRANT pg_execute_server_program, pg_checkpoint TO neon_superuser",
        "GRANT cloud_admin TO neon_superuser",
        "CREATE ROLE g; GRANT pg_write_all_data TO g WITH ADMIN OPTION; SET ROLE g; GRANT pg_write_all_data TO neon_superuser WITH INHERIT FALSE; RESET ROLE",
        "ALTER ROLE neon_superuser RENAME TO stolen"
      ]
      for (const change of changes) {
        yield* sql(change)
        assert.notDeepEqual((yield* apply({})).results, [], change)
        assert.deepStrictEqual((yield* apply({})).results, [], change)
        assert.deepStrictEqual(yield* sql(state), right, change)
        assert.deepStrictEqual(
          yield* column(
            "SELECT DISTINCT roleid::regrole::text FROM pg_auth_members WHERE member = 'neon_superuser'::regrole AND inherit_option AND set_option AND NOT admin_option ORDER BY 1"
          ),
          ["pg_read_all_data", "pg_write_all_data"],
          change
        )
      }
      yield* sql("GRANT pg_monitor TO neon_superuser; CREATE ROLE theirs; GRANT theirs TO neon_superuser")
      assert.deepStrictEqual((yield* apply({})).results, [], "memberships that migrations and users give")
      yield* sql("DROP ROLE theirs, stolen, g")
    })
  )

  it.effect("S-102 S-103 a database is renamed with all that is in it, and gets its new owner", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
      yield* apply(owned(["DB"]))
      yield* sql("CREATE TABLE t AS SELECT 42 AS x", "DB")
      const document: Document = {
        roles: [{ name: "DB", encrypted_password: verifier("A") }, { name: "carol" }],
        databases: [{ name: "DB2", owner: "carol" }],
        deltas: [{ action: "rename_db", name: "DB", new_name: "DB2" }]
      }
      yield* apply(document)
      assert.deepStrictEqual(yield* column(databases), ["DB2"])
      assert.deepStrictEqual(yield* column("SELECT x FROM t", "DB2"), ["42"])
      assert.deepStrictEqual(yield* column("SELECT datdba::regrole FROM pg_database WHERE datname = 'DB2'"), ["carol"])
      assert.deepStrictEqual((yield* apply(document)).results, [])
      yield* apply({
        deltas: [
          { action: "delete_db", name: "DB2" },
          { action: "delete_role", name: "carol" },
          { action: "delete_role", name: "DB" }
        ]
      })
      assert.deepStrictEqual(yield* column(roles), [])
    })
  )

  it.effect("a role is renamed, and its md5 verifier set again", () =>
    Effect.gen(function* () {
      const { apply, column } = yield* Server
      const digest = "2e7535f355c639573f1853ccec7a03d0"
      yield* apply({ roles: [{ name: "old", encrypted_password: digest }] })
      const document: Document = {
        roles: [{ name: "new", encrypted_password: digest }],
        deltas: [{ action: "rename_role", name: "old", new_name: "new" }]
      }
      assert.deepStrictEqual((yield* apply(document)).counts, { rename_role: 1, alter_role: 1 })
      assert.deepStrictEqual((yield* apply(document)).results, [])
      assert.deepStrictEqual(yield* column("SELECT rolpassword FROM pg_authid WHERE rolname = 'new'"), [`md5${digest}`])
      yield* apply(deleted(["new"]))
    })
  )

  it.effect("a list that swaps two names swaps them once", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
      const document = owned(["one", "two"])
      yield* apply(document)
      yield* sql("CREATE TABLE t (x int); ALTER TABLE t OWNER TO one", "one")
      const swap = (action: string) => [
        { action, name: "one", new_name: "aside" },
        { action, name: "two", new_name: "one" },
        { action, name: "aside", new_name: "two" }
      ]
      const swapped = { ...document, deltas: [...swap("rename_role"), ...swap("rename_db")] }
      yield* apply(swapped)
      assert.deepStrictEqual((yield* apply(swapped)).results, [])
      assert.deepStrictEqual(yield* column("SELECT tableowner FROM pg_tables WHERE tablename = 't'", "two"), ["two"])
      yield* apply(deleted(["one", "two"]))
    })
  )

  it.effect("S-104 a database with subscriptions is dropped, also a template that refuses connections", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
      const name = "';subscriber_db $$ $x$ $;"
      yield* apply(owned([name]))
      yield* sql("CREATE SUBSCRIPTION mysub CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)", name)
      yield* sql(`ALTER DATABASE ${quoted(name)} IS_TEMPLATE true`)
      yield* sql(`ALTER DATABASE ${quoted(name)} ALLOW_CONNECTIONS false`)
      const { counts } = yield* apply(deleted([name]))
      assert.deepStrictEqual(counts, {
        allow_connections: 1,
        drop_subscriptions: 1,
        untemplate_database: 1,
        drop_database: 1,
        drop_role: 1
      })
      assert.deepStrictEqual(yield* column(databases), [])
    })
  )

  it.effect("S-105 S-106 a role with grants from other roles is dropped, its objects stay", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
      const reader = "'); MALFORMED SQL $$ $x$ $/;5%$ %I"
      const document = owned(["owner"])
      yield* apply(document)
      yield* sql("CREATE TABLE public.t (x int); CREATE VIEW public.v AS SELECT 1; CREATE SEQUENCE public.s", "owner")
      yield* sql(
        `CREATE ROLE ${quoted(reader)}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${quoted(reader)} WITH GRANT OPTION;` +
          ` GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO ${quoted(reader)};` +
          ` CREATE ROLE further`,
        "owner",
        "owner"
      )
      yield* sql(
        `CREATE TABLE public.mine (x int); ALTER TABLE public.mine OWNER TO ${quoted(reader)}; SET ROLE ${quoted(reader)};` +
          ` GRANT SELECT ON public.mine, public.t TO further`,
        "owner"
      )
      yield* sql(
        `ALTER ROLE ${quoted(reader)} CREATEROLE; GRANT CONNECT ON DATABASE owner TO ${quoted(reader)};` +
          ` SET ROLE ${quoted(reader)}; CREATE ROLE theirs; GRANT theirs TO further`
      )
      assert.deepStrictEqual(
        yield* column(
          "SELECT DISTINCT grantor FROM information_schema.role_table_grants WHERE table_name IN ('t', 'v') AND grantee LIKE '%MALFORMED%'",
          "owner"
        ),
        ["neon_superuser"]
      )
      const { counts } = yield* apply({ ...document, deltas: [{ action: "delete_role", name: reader }] })
      assert.deepStrictEqual(counts, { disown_role: 2, drop_role: 1 })
      assert.deepStrictEqual(yield* column("SELECT tableowner FROM pg_tables WHERE tablename = 'mine'", "owner"), [
        "owner"
      ])
      yield* apply(deleted(["owner", "further", "theirs"]))
      assert.deepStrictEqual(yield* column(roles), [])
    })
  )

  it.effect("a role with objects in a database that the document does not list stays, and why is said", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
      yield* apply({ roles: [{ name: "busy" }] })
      yield* sql("CREATE DATABASE unlisted")
      yield* sql("CREATE TABLE t (x int); ALTER TABLE t OWNER TO busy", "unlisted")
      const { message, report } = yield* Effect.flip(apply(deleted(["busy"])))
      assert.include(message, 'drop_role role "busy"')
      assert.include(report?.warnings.join(), 'something in database "unlisted" depends on it')
      assert.deepStrictEqual(yield* column("SELECT tableowner FROM pg_tables WHERE tablename = 't'", "unlisted"), [
        "busy"
      ])
      yield* apply(deleted(["unlisted", "busy"]))
      assert.deepStrictEqual(yield* column(roles), [])
    })
  )

  it.effect("S-107 a database whose drop was interrupted is removed, and made again where it is listed", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
      yield* apply(owned(["failure", "again"]))
      yield* sql("UPDATE pg_database SET datconnlimit = -2 WHERE datname IN ('failure', 'again')")
      yield* apply(owned(["again"]))
      assert.deepStrictEqual(
        yield* column("SELECT datname || datconnlimit FROM pg_database WHERE datname IN ('failure', 'again')"),
        ["again-1"]
      )
      yield* apply(deleted(["failure", "again"]))
    })
  )

  it.effect("S-108 S-109 the privileged role has its rights on a new database and on what comes into it", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
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
      assert.deepStrictEqual(
        yield* column("SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'public'", "app"),
        ["pg_database_owner"]
      )
      yield* sql("ALTER SCHEMA public OWNER TO cloud_admin", "app")
      assert.deepStrictEqual((yield* apply(owned(["app"]))).results, [], "the inside is known")
      assert.deepStrictEqual((yield* apply(owned(["app"]), { mode: "full" })).counts, {
        own_public_schema: 1
      })
      yield* sql("DROP SCHEMA public CASCADE", "app")
      yield* apply(owned(["app"]), { mode: "full" })
      yield* apply(deleted(["app"]))
    })
  )

  it.effect("S-113 S-114 inherited subscriptions are dropped once for each timeline", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
      const subscribe = "CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)"
      const document = { ...owned(["app"]), more: { drop_subscriptions_before_start: true } }
      const count = column("SELECT count(*) FROM pg_subscription")
      yield* apply(owned(["app"]))
      yield* sql(subscribe, "app")
      yield* apply(document)
      assert.deepStrictEqual(yield* count, ["0"])
      yield* sql(subscribe, "app")
      assert.deepStrictEqual((yield* apply(document)).results, [], "what users created since stays")
      const child = "f".repeat(32)
      yield* apply({ ...document, timelineId: child })
      assert.deepStrictEqual(yield* count, ["0"])
      assert.deepStrictEqual(yield* column("SELECT timeline_id FROM neon.drop_subscriptions_done"), [child])
      yield* apply(deleted(["app"]))
    })
  )

  it.effect("S-085 one object that fails does not keep the others from being made, and is named", () =>
    Effect.gen(function* () {
      const { apply, column } = yield* Server
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
      yield* apply(deleted(["of_good", "good"]))
    })
  )

  it.effect("settings of a database that hinder sessions do not hinder ours", () =>
    Effect.gen(function* () {
      const { apply, sql } = yield* Server
      yield* apply(owned(["odd"]))
      yield* sql(
        "CREATE ROLE weak; ALTER DATABASE odd SET role = weak; ALTER DATABASE odd SET default_transaction_read_only = on;" +
          " ALTER DATABASE odd SET search_path = nowhere; ALTER DATABASE odd SET statement_timeout = 1"
      )
      yield* sql("ALTER SCHEMA public OWNER TO cloud_admin; ALTER DATABASE odd SET lock_timeout = 1", "postgres")
      assert.deepStrictEqual((yield* apply(owned(["odd"]), { mode: "full" })).failures, [])
      yield* apply(deleted(["odd", "weak"]))
    })
  )

  it.effect("a lock that somebody holds fails the one database, within the deadline", () =>
    Effect.gen(function* () {
      const { apply, column, target } = yield* Server
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
      yield* apply(deleted(["free", "locked"]))
    })
  )

  it.effect("a crash between the creation of a database and its grant is made good", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
      yield* apply({})
      yield* sql(
        "INSERT INTO neon_migration.catalog_state (database, timeline_id, unfinished) SELECT oid, '', '{half}' FROM pg_database WHERE datname = 'postgres'" +
          " ON CONFLICT (database) DO UPDATE SET unfinished = excluded.unfinished; CREATE ROLE half"
      )
      yield* sql("CREATE DATABASE half OWNER half")
      const { counts } = yield* apply({ roles: [{ name: "half" }], databases: [{ name: "half", owner: "half" }] })
      assert.strictEqual(counts["finish_database"], 1)
      assert.deepStrictEqual(yield* column("SELECT has_database_privilege('neon_superuser', 'half', 'CREATE')"), ["t"])
      yield* apply(deleted(["half"]))
    })
  )
})

layer(Server.vanilla, { excludeTestServices: true, timeout: 60_000 })(
  "apply on a server without the extension",
  (it) => {
    it.effect("the extension is left out with a warning", () =>
      Effect.gen(function* () {
        const { apply } = yield* Server
        const { failures, warnings } = yield* apply({})
        assert.deepStrictEqual(failures, [])
        assert.deepStrictEqual(warnings, ['extension "neon" is not available on this server, going on without it'])
      })
    )

    it.effect("S-117 the privileged role can have another name", () =>
      Effect.gen(function* () {
        const { apply, column } = yield* Server
        yield* apply(owned(["x"]), { privilegedRole: "my_superuser" })
        assert.deepStrictEqual(
          yield* column("SELECT m.roleid::regrole FROM pg_auth_members m WHERE m.member = 'x'::regrole"),
          ["my_superuser"]
        )
        yield* apply(deleted(["x"]), { privilegedRole: "my_superuser" })
      })
    )
  }
)
