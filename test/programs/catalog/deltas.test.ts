/** Objects that are renamed and deleted, by delta operations and because a drop was interrupted. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { identifier } from "../../../src/domain/catalog/quoting.ts"
import { databases, deleted, digest, owned, roles, verifier } from "./documents.ts"
import { type Document, Server } from "./server.ts"

layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })("delta operations", (it) => {
  it.effect("S-102 S-103 a database is renamed with all that is in it, and gets its new owner", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server.wiped
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
    })
  )

  it.effect("a role is renamed, and its md5 verifier set again", () =>
    Effect.gen(function* () {
      const { apply, column } = yield* Server.wiped
      yield* apply({ roles: [{ name: "old", encrypted_password: digest }] })
      const document: Document = {
        roles: [{ name: "new", encrypted_password: digest }],
        deltas: [{ action: "rename_role", name: "old", new_name: "new" }]
      }
      assert.deepStrictEqual((yield* apply(document)).counts, { rename_role: 1, alter_role: 1 })
      assert.deepStrictEqual((yield* apply(document)).results, [])
      assert.deepStrictEqual(yield* column("SELECT rolpassword FROM pg_authid WHERE rolname = 'new'"), [`md5${digest}`])
    })
  )

  it.effect("a list that swaps two names swaps them once", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server.wiped
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
    })
  )

  it.effect("S-105 S-106 a role with grants from other roles is dropped, its objects stay", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server.wiped
      const reader = "'); MALFORMED SQL $$ $x$ $/;5%$ %I"
      const document = owned(["owner"])
      yield* apply(document)
      yield* sql("CREATE TABLE public.t (x int); CREATE VIEW public.v AS SELECT 1; CREATE SEQUENCE public.s", "owner")
      yield* sql(
        `CREATE ROLE ${identifier(reader)}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${identifier(reader)} WITH GRANT OPTION;` +
          ` GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO ${identifier(reader)};` +
          ` CREATE ROLE further`,
        "owner",
        "owner"
      )
      yield* sql(
        `CREATE TABLE public.mine (x int); ALTER TABLE public.mine OWNER TO ${identifier(reader)}; SET ROLE ${identifier(reader)};` +
          ` GRANT SELECT ON public.mine, public.t TO further`,
        "owner"
      )
      yield* sql(
        `ALTER ROLE ${identifier(reader)} CREATEROLE; GRANT CONNECT ON DATABASE owner TO ${identifier(reader)};` +
          ` SET ROLE ${identifier(reader)}; CREATE ROLE theirs; GRANT theirs TO further`
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
      const { apply, column, sql } = yield* Server.wiped
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
      const { apply, column, sql } = yield* Server.wiped
      yield* apply(owned(["failure", "again"]))
      yield* sql("UPDATE pg_database SET datconnlimit = -2 WHERE datname IN ('failure', 'again')")
      yield* apply(owned(["again"]))
      assert.deepStrictEqual(
        yield* column("SELECT datname || datconnlimit FROM pg_database WHERE datname IN ('failure', 'again')"),
        ["again-1"]
      )
    })
  )
})
