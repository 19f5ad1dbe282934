import * as fs from "node:fs/promises"
import { join } from "node:path"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Server } from "./server.ts"

const lakebase = { lakebase: true }

layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })("lakebase mode", (it) => {
  it.effect("makes its roles, its extension, and what the monitor needs, once only", () =>
    Effect.gen(function* () {
      const { apply, column, pgdata, sql } = yield* Server
      yield* sql("CREATE ROLE databricks_reader_7; CREATE ROLE databricks_reader_x")
      yield* Effect.promise(() =>
        fs.appendFile(join(pgdata, "postgresql.conf"), "databricks.reader_statement_timeout = '30s'\n")
      )
      yield* sql("SELECT pg_reload_conf()")
      while ((yield* column("SELECT current_setting('databricks.reader_statement_timeout', true)"))[0] !== "30s") {
        yield* Effect.sleep("10 millis")
      }
      const { counts } = yield* apply({}, lakebase)
      assert.deepStrictEqual(counts, {
        create_schema_neon: 1,
        prepare_state: 1,
        create_privileged_role: 1,
        create_service_role: 3,
        set_role_timeout: 2,
        create_extension: 1,
        recreate_databricks_auth: 1,
        create_health_check: 1,
        grant_monitor: 1,
        create_health_function: 1
      })
      assert.deepStrictEqual(
        yield* sql(
          "SELECT rolname, rolsuper, rolcanlogin, rolpassword, pg_has_role(oid, 'pg_monitor', 'member') FROM pg_authid WHERE rolname LIKE 'databricks%' ORDER BY 1"
        ),
        [
          ["databricks_control_plane", "t", "t", null, "t"],
          ["databricks_gateway", "f", "t", null, "f"],
          ["databricks_monitor", "f", "t", null, "t"],
          ["databricks_reader_7", "f", "f", null, "f"],
          ["databricks_reader_x", "f", "f", null, "f"]
        ]
      )
      assert.deepStrictEqual(
        yield* sql(
          "SELECT setrole::regrole::text, setconfig FROM pg_db_role_setting WHERE setconfig::text LIKE '%statement_timeout%' ORDER BY 1"
        ),
        [
          ["databricks_monitor", "{statement_timeout=60s}"],
          ["databricks_reader_7", "{statement_timeout=30s}"]
        ]
      )
      assert.deepStrictEqual(
        yield* sql("SELECT rolreplication FROM pg_roles WHERE rolname = 'neon_superuser'"),
        [["f"]],
        "the privileged role gets no REPLICATION"
      )
      const monitor = (text: string) => column(text, "postgres", "databricks_monitor")
      assert.deepStrictEqual(yield* monitor("SELECT public.health_check_write_succeeds()"), ["1"])
      assert.deepStrictEqual(yield* monitor("SELECT count(*) > 0 FROM pg_ls_dir('base')"), ["t"])
      assert.deepStrictEqual(yield* monitor("SELECT metric FROM public.databricks_auth_metrics"), ["1"])
      assert.deepStrictEqual((yield* apply({}, lakebase)).results, [])
    })
  )

  it.effect("puts right what was changed there", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
      const changes: ReadonlyArray<readonly [string, Readonly<Record<string, number>>]> = [
        ["REVOKE UPDATE ON public.health_check FROM databricks_monitor", { grant_monitor: 1 }],
        ["ALTER ROLE databricks_monitor RESET statement_timeout", { set_role_timeout: 1 }],
        ["DROP FUNCTION public.health_check_write_succeeds()", { create_health_function: 1 }],
        [
          "DROP EXTENSION databricks_auth; CREATE EXTENSION databricks_auth VERSION '1.0'",
          { recreate_databricks_auth: 1 }
        ],
        [
          "CREATE VIEW neon.neon_perf_counters AS SELECT 1; CREATE FUNCTION neon.get_perf_counters() RETURNS int LANGUAGE sql AS 'SELECT 1'",
          { grant_monitor: 1 }
        ],
        ["DROP ROLE databricks_gateway", { create_service_role: 1 }]
      ]
      for (const [change, counts] of changes) {
        yield* sql(change)
        assert.deepStrictEqual((yield* apply({}, lakebase)).counts, counts, change)
        assert.deepStrictEqual((yield* apply({}, lakebase)).results, [], change)
      }
      assert.deepStrictEqual(yield* column("SELECT extversion FROM pg_extension WHERE extname = 'databricks_auth'"), [
        "1.1"
      ])
    })
  )
})

layer(Server.vanilla, { excludeTestServices: true, timeout: 60_000 })("lakebase mode on a plain server", (it) => {
  it.effect("goes on without the extensions, and says so", () =>
    Effect.gen(function* () {
      const { apply } = yield* Server
      const { warnings } = yield* apply({}, lakebase)
      assert.deepStrictEqual(warnings, [
        'extension "neon" is not available on this server, going on without it',
        'extension "databricks_auth" is not available on this server, going on without it'
      ])
      assert.deepStrictEqual((yield* apply({}, lakebase)).results, [])
    })
  )
})
