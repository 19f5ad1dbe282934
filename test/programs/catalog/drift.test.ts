/** What somebody changes behind our back, and what the next apply makes of it. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { major } from "../../support/postgres.ts"
import { databases, owned, privilegedDrift, verifier } from "./documents.ts"
import { Server } from "./server.ts"

/** Memberships have options, and a row for each grantor, since 16. */
const options = major < 16 ? "" : " AND inherit_option AND set_option"
const grantByOther =
  "CREATE ROLE g; GRANT pg_write_all_data TO g WITH ADMIN OPTION; SET ROLE g;" +
  " GRANT pg_write_all_data TO neon_superuser WITH INHERIT FALSE; RESET ROLE"

layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })("drift", (it) => {
  it.effect("S-098 S-099 drift of what the document states is put right, and nothing else", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server.wiped
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
        ...(major < 15 ? { own_public_schema: 1 } : {}),
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
        yield* column(databases.replace("SELECT datname", "SELECT datname || ' ' || datdba::regrole")),
        ["alice alice", "bob bob", "theirs other"]
      )
      assert.deepStrictEqual(yield* column("SELECT pg_has_role('bob', 'neon_superuser', 'member')"), ["f"])
      assert.deepStrictEqual((yield* apply(document)).results, [])
    })
  )

  it.effect("S-117 whatever is changed on the privileged role is put right", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server.wiped
      yield* apply({})
      const state =
        "SELECT rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit, rolpassword, coalesce(rolvaliduntil, 'infinity')" +
        " FROM pg_authid WHERE rolname = 'neon_superuser'"
      const right = yield* sql(state)
      assert.deepStrictEqual(right, [["f", "t", "t", "t", "f", "t", "t", "-1", null, "infinity"]])
      const changes = [
        ...privilegedDrift,
        ...(major < 16 ? [] : [grantByOther]),
        "ALTER ROLE neon_superuser RENAME TO stolen"
      ]
      for (const change of changes) {
        yield* sql(change)
        assert.notDeepEqual((yield* apply({})).results, [], change)
        assert.deepStrictEqual((yield* apply({})).results, [], change)
        assert.deepStrictEqual(yield* sql(state), right, change)
        assert.deepStrictEqual(
          yield* column(
            `SELECT DISTINCT roleid::regrole::text FROM pg_auth_members WHERE member = 'neon_superuser'::regrole AND NOT admin_option${options} ORDER BY 1`
          ),
          ["pg_read_all_data", "pg_write_all_data"],
          change
        )
      }
      yield* sql("GRANT pg_monitor TO neon_superuser; CREATE ROLE theirs; GRANT theirs TO neon_superuser")
      assert.deepStrictEqual((yield* apply({})).results, [], "memberships that migrations and users give")
    })
  )
})
