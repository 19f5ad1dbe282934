/** Settings of roles and databases that would break a session which inherits them. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { describeLine } from "../../../src/domain/describe.ts"
import { isQuick, major } from "../../support/postgres.ts"
import { owned } from "./documents.ts"
import { Server } from "./server.ts"

const settings: ReadonlyArray<readonly [name: string, value: string]> = [
  ["role", "weak"],
  ["search_path", "planted"],
  ["default_transaction_read_only", "on"],
  ["default_transaction_isolation", "serializable"],
  ["default_transaction_deferrable", "on"],
  ["statement_timeout", "1"],
  ["lock_timeout", "1"],
  ["idle_session_timeout", "1"],
  ["idle_in_transaction_session_timeout", "1"],
  ["session_preload_libraries", "nowhere"],
  ["local_preload_libraries", "nowhere"],
  ["client_min_messages", "debug5"],
  ["client_encoding", "SQL_ASCII"],
  ["standard_conforming_strings", "off"],
  ["backslash_quote", "off"],
  ["escape_string_warning", "on"],
  ["quote_all_identifiers", "on"],
  ["row_security", "off"],
  ["session_replication_role", "replica"],
  ["default_table_access_method", "nowhere"],
  ["default_tablespace", "nowhere"],
  ["temp_tablespaces", "nowhere"],
  ["password_encryption", "md5"],
  ["createrole_self_grant", "'set, inherit'"],
  ["bytea_output", "escape"],
  ["DateStyle", "'SQL, DMY'"],
  ["IntervalStyle", "sql_standard"],
  ["TimeZone", "'Asia/Kathmandu'"],
  ["array_nulls", "off"],
  ["xmlbinary", "hex"],
  ["xmloption", "document"],
  ["lc_messages", "'C'"],
  ["log_statement", "'all'"],
  ["work_mem", "64"],
  ["jit", "off"]
]

const known = settings.filter(([name]) => name !== "createrole_self_grant" || major >= 16)
/** Each by itself in the matrix, all at once otherwise. */
const cases: ReadonlyArray<readonly [title: string, settings: typeof settings]> = isQuick
  ? [["all of them", known]]
  : known.map(([name, value]) => [`${name} = ${value}`, [[name, value]]])

layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })("settings", (it) => {
  it.effect.each(cases)("%s on our role and on databases: our sessions do without", ([, made]) =>
    Effect.gen(function* () {
      const { apply, connect, sql } = yield* Server.wiped
      yield* apply(owned(["odd"]))
      const session = yield* connect()
      yield* session.query("CREATE ROLE weak; DROP TABLE public.health_check")
      yield* sql(
        "ALTER SCHEMA public OWNER TO cloud_admin;" +
          " ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM neon_superuser",
        "odd"
      )
      const places = ["DATABASE odd", "DATABASE postgres", "ROLE cloud_admin", "ROLE cloud_admin IN DATABASE odd"]
      for (const place of places) {
        for (const [name, value] of made) yield* session.query(`ALTER ${place} SET ${name} = ${value}`)
      }
      const applied = yield* Effect.result(apply(owned(["odd", 'an "other"\\ one']), { mode: "full" }))
      for (const place of places) yield* session.query(`ALTER ${place} RESET ALL`)
      assert.deepStrictEqual(
        applied._tag === "Success" ? applied.success.counts : { [describeLine(applied.failure)]: 1 },
        {
          create_role: 1,
          begin_databases: 1,
          create_database: 1,
          finish_database: 1,
          end_databases: 1,
          own_public_schema: major >= 15 ? 1 : 2,
          default_privileges: 3,
          create_health_check: 1,
          remember_contents: 1
        }
      )
    }).pipe(Effect.scoped)
  )
})
