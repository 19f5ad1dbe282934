/** Roles, databases, extension and migrations over starts and stops of a node, on the version under test. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { makeBed, type StartOptions } from "../support/bed.ts"
import type { Compute } from "../support/compute.ts"
import { bindirWithNeon, major } from "../support/postgres.ts"
import { catalog, configure } from "../support/reconfigure.ts"

const bedOfVersion = Effect.flatMap(bindirWithNeon, (bindir) => makeBed({ postgres: { _tag: "Bindir", bindir } }))

const catalogOn: StartOptions = { spec: { skip_pg_catalog_updates: false } }
const catalogOff: StartOptions = { spec: { skip_pg_catalog_updates: true } }

const document = (roles: ReadonlyArray<unknown>, databases: ReadonlyArray<unknown>): StartOptions => ({
  ...catalogOn,
  document: ({ spec, ...rest }) => ({
    ...rest,
    spec: { ...spec, cluster: { ...Object(spec["cluster"]), roles, databases } }
  })
})

const migrated = (node: Compute) => node.logged("Finished migration id=12")

const values = (node: Compute, text: string, database?: string) =>
  Effect.map(node.sql(text, database), (rows) => rows.flat())

describe("a start", () => {
  it.live("S-094 S-117 S-121 makes what the document lists, and the privileged role by its name", () =>
    Effect.gen(function* () {
      const bed = yield* bedOfVersion
      const started = document([{ name: "alice" }], [{ name: "app", owner: "alice" }])
      const node = yield* bed.run({ ...started, args: { "--privileged-role-name": "my_superuser" } })
      yield* migrated(node)
      expect(yield* values(node, "SELECT datdba::regrole FROM pg_database WHERE datname = 'app'")).toEqual(["alice"])
      expect(yield* values(node, "SELECT rolname FROM pg_roles WHERE rolname = 'neon_superuser'")).toEqual([])
      expect(
        yield* node.sql(
          "SELECT rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolconnlimit, rolbypassrls" +
            " FROM pg_roles WHERE rolname = 'my_superuser'"
        )
      ).toEqual([["f", "t", "t", "t", "f", "t", "-1", "t"]])
      expect(
        yield* values(
          node,
          "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = 'my_superuser'::regrole ORDER BY 1"
        )
      ).toEqual([
        ...(major < 16 ? [] : ["pg_create_subscription"]),
        ...["pg_monitor", "pg_read_all_data", "pg_signal_backend", "pg_write_all_data"]
      ])
      expect(yield* values(node, "SELECT id FROM neon_migration.migration_id")).toEqual(["12"])
      for (const id of [5, 6, 7, 8, 9]) expect(node.stderr()).toContain(`Skipping migration id=${id}`)
      yield* node.stop
    })
  )

  it.live("S-107 removes a database whose drop was interrupted, where it may touch the catalogs", () =>
    Effect.gen(function* () {
      const bed = yield* bedOfVersion
      const node = yield* bed.run(catalogOn)
      yield* node.sql("CREATE DATABASE failure")
      yield* node.sql("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'failure'")
      yield* node.stop
      const limit = "SELECT datconnlimit FROM pg_database WHERE datname = 'failure'"
      const off = yield* bed.run(catalogOff)
      expect(yield* values(off, limit)).toEqual(["-2"])
      yield* off.stop
      const on = yield* bed.run(catalogOn)
      expect(yield* values(on, limit)).toEqual([])
      yield* on.stop
    })
  )

  it.live("S-112 S-119 S-120 S-130 finds what SQL has made and dropped, and brings the extension up to date", () =>
    Effect.gen(function* () {
      const bed = yield* bedOfVersion
      const first = yield* bed.run(catalogOn)
      yield* migrated(first)
      const version = "SELECT extversion || ' ' || extnamespace::regnamespace FROM pg_extension WHERE extname = 'neon'"
      expect(yield* values(first, version)).toEqual(["1.6 neon"])
      yield* first.sql("CREATE USER stays; CREATE USER goes")
      yield* first.sql("CREATE DATABASE stays OWNER stays")
      yield* first.sql("CREATE DATABASE goes")
      yield* first.sql("CREATE TABLE t AS SELECT 42 AS x", "stays")
      yield* first.sql("DROP DATABASE goes")
      yield* first.sql("DROP USER goes; ALTER EXTENSION neon UPDATE TO '1.0'; CHECKPOINT")
      yield* first.stop
      const second = yield* bed.run(catalogOn)
      expect(yield* values(second, "SELECT x FROM t", "stays")).toEqual(["42"])
      expect(yield* values(second, "SELECT datdba::regrole FROM pg_database WHERE datname = 'stays'")).toEqual([
        "stays"
      ])
      expect(
        yield* values(
          second,
          "SELECT datname::text FROM pg_database WHERE datname = 'goes' UNION SELECT rolname FROM pg_roles WHERE rolname = 'goes'"
        )
      ).toEqual([])
      expect(yield* values(second, version)).toEqual(["1.6 neon"])
      expect(yield* values(second, "SELECT id FROM neon_migration.migration_id")).toEqual(["12"])
      expect(second.stderr()).not.toContain("Running migration")
      yield* second.stop
    })
  )

  it.live("S-116 keeps subscribers off until the catalogs are done", () =>
    Effect.gen(function* () {
      const bed = yield* bedOfVersion
      const setting = "neon.disable_logical_replication_subscribers"
      const node = yield* bed.run({ spec: { skip_pg_catalog_updates: false, drop_subscriptions_before_start: true } })
      const lines = (yield* node.file("postgresql.conf")).split("\n").filter((line) => line.startsWith(setting))
      expect(lines).toEqual([`${setting}=true`, `${setting}=false`])
      expect(yield* values(node, `SHOW ${setting}`)).toEqual(["false"])
      yield* node.stop
    })
  )
})

describe("/reconcile", () => {
  it.live("names the object, the operation, its outcome and the SQLSTATE of what could not be done", () =>
    Effect.gen(function* () {
      const bed = yield* bedOfVersion
      const node = yield* bed.run(catalogOn)
      yield* node.sql("CREATE ROLE busy")
      yield* node.sql("CREATE DATABASE unlisted OWNER busy")
      yield* node.sql("CREATE TABLE t (x int); ALTER TABLE t OWNER TO busy", "unlisted")
      const spec = yield* catalog(
        bed,
        node,
        { roles: [{ name: "alice" }], databases: [{ name: "app", owner: "alice" }] },
        { delta_operations: [{ action: "delete_role", name: "busy" }] }
      )
      const answer = yield* configure(bed, node, { spec })
      expect(answer.status).toBe(500)
      const { last_apply: lastApply } = Object((yield* node.external("GET /reconcile")).json)
      expect(lastApply).toMatchObject({
        counts: { create_role: 1, create_database: 1 },
        failures: [
          {
            object: 'role "busy"',
            operation: "drop_role",
            database: "postgres",
            outcome: "failed",
            sqlstate: "2BP01",
            message: expect.stringContaining("cannot be dropped")
          }
        ],
        warnings: [expect.stringContaining('something in database "unlisted" depends on it')]
      })
      expect(yield* values(node, "SELECT datdba::regrole FROM pg_database WHERE datname = 'app'")).toEqual(["alice"])
    })
  )
})
