import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import { lastMigration } from "../../../src/domain/catalog/migrations.ts"
import { migrate, migrateQuietly } from "../../../src/programs/catalog/migrate.ts"
import { major } from "../../support/postgres.ts"
import { type Picture, takePicture } from "./picture.ts"
import { Server } from "./server.ts"

const run = Effect.flatMap(Server, ({ provide }) => provide(migrate("neon_superuser")))

/** Rejects one number, as long as it is there. */
const stopAfter = (id: number) =>
  `CREATE OR REPLACE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id > ${id} THEN RAISE 'stopped'; END IF; RETURN NEW; END $$;` +
  " CREATE OR REPLACE TRIGGER stop BEFORE UPDATE ON neon_migration.migration_id FOR EACH ROW EXECUTE FUNCTION public.stop()"

const privileged = (what: string) => `SELECT ${what} FROM pg_roles WHERE rolname = 'neon_superuser'`
const memberWithAdmin = (role: string) =>
  `SELECT admin_option FROM pg_auth_members WHERE member = 'neon_superuser'::regrole AND roleid = '${role}'::regrole`

/** Where the server has what it is about. */
const from16 = (query: string): string | undefined => (major < 16 ? undefined : query)

/** What holds after each number, and not before; undefined: nothing changes. */
const effects: ReadonlyArray<readonly [id: number, query: string | undefined]> = [
  [1, privileged("rolbypassrls")],
  [2, "SELECT bool_and(rolinherit) FROM pg_roles WHERE rolname IN ('member', 'neon_superuser')"],
  [
    3,
    from16(
      "SELECT count(*) = 1 FROM pg_auth_members WHERE member = 'neon_superuser'::regrole AND roleid = 'pg_create_subscription'::regrole"
    )
  ],
  [4, memberWithAdmin("pg_monitor")],
  [5, undefined],
  [6, undefined],
  [7, undefined],
  [8, undefined],
  [9, undefined],
  [
    10,
    from16(
      "SELECT has_function_privilege('neon_superuser', 'pg_export_snapshot()', 'execute') AND has_function_privilege('neon_superuser', 'pg_log_standby_snapshot()', 'execute')"
    )
  ],
  [11, "SELECT has_function_privilege('neon_superuser', 'pg_show_replication_origin_status()', 'execute')"],
  [12, memberWithAdmin("pg_signal_backend")]
]

/** Sections that differ, apart from the number and from what stops it. */
const changes = (before: Picture, after: Picture): ReadonlyArray<string> =>
  Object.keys(after).filter(
    (section) =>
      section !== "migration table" &&
      section !== "functions in postgres" &&
      JSON.stringify(after[section]) !== JSON.stringify(before[section])
  )
const nothing: ReadonlyArray<string> = []

layer(Server.vanilla, { excludeTestServices: true, timeout: 60_000 })("migrations", (it) => {
  it.effect(
    "S-122 S-123 S-124 S-125 S-127 S-128 S-129 each migration is applied together with its mark, and goes on after a failure",
    () =>
      Effect.gen(function* () {
        const { apply, column, sql } = yield* Server
        yield* apply({})
        yield* sql(
          "ALTER ROLE neon_superuser NOBYPASSRLS; CREATE ROLE member NOINHERIT IN ROLE neon_superuser; CREATE ROLE outsider BYPASSRLS"
        )
        // The table comes with the first, failing run.
        yield* sql(
          "CREATE SCHEMA IF NOT EXISTS neon_migration; CREATE TABLE neon_migration.migration_id (key int4 PRIMARY KEY, id int8 NOT NULL DEFAULT 0); INSERT INTO neon_migration.migration_id VALUES (0, 0)"
        )
        for (const [id, query] of effects) {
          const before = yield* takePicture(yield* Server)
          yield* sql(stopAfter(id - 1))
          const { id: failed, message } = yield* Effect.flip(run)
          assert.strictEqual(failed, id)
          assert.strictEqual(message, `update neon_migration.migration_id to ${id}`)
          assert.deepStrictEqual(yield* column("SELECT id FROM neon_migration.migration_id"), [String(id - 1)])
          if (query !== undefined) assert.notStrictEqual((yield* column(query))[0], "t", `before ${id}`)
          yield* sql(stopAfter(id))
          if (id < lastMigration) yield* Effect.flip(run)
          else yield* run
          if (query !== undefined) assert.deepStrictEqual(yield* column(query), ["t"], `after ${id}`)
          else assert.deepStrictEqual(changes(before, yield* takePicture(yield* Server)), nothing, `at ${id}`)
        }
        assert.deepStrictEqual(yield* column("SELECT rolbypassrls FROM pg_roles WHERE rolname = 'outsider'"), ["f"])
        yield* sql("DROP TRIGGER stop ON neon_migration.migration_id")
      })
  )

  it.effect("S-126 the log names the migrations that are skipped, and those that run", () =>
    Effect.gen(function* () {
      const { sql } = yield* Server
      yield* sql("UPDATE neon_migration.migration_id SET id = 3")
      const logged: Array<string> = []
      const listening = Logger.make(({ message }) => void logged.push(String(message)))
      yield* run.pipe(
        Effect.provide(Logger.layer([listening])),
        Effect.provideService(References.MinimumLogLevel, "Info")
      )
      const about = (word: string) =>
        logged.flatMap((line) => new RegExp(`^${word} migration id=(\\d+)`, "u").exec(line)?.[1] ?? [])
      assert.deepStrictEqual(about("Skipping"), ["5", "6", "7", "8", "9"])
      assert.deepStrictEqual(about("Running"), ["4", "10", "11", "12"])
      assert.deepStrictEqual(about("Finished"), [4, 5, 6, 7, 8, 9, 10, 11, 12].map(String))
    })
  )

  it.effect("S-121 the last number is recorded, in a schema that is closed to others", () =>
    Effect.gen(function* () {
      const { column, sql } = yield* Server
      yield* sql("DROP TABLE neon_migration.migration_id")
      assert.strictEqual(yield* run, 12)
      assert.deepStrictEqual(yield* sql("SELECT key, id FROM neon_migration.migration_id"), [["0", "12"]])
      assert.deepStrictEqual(yield* column("SELECT has_schema_privilege('outsider', 'neon_migration', 'usage')"), ["f"])
      assert.deepStrictEqual(
        yield* column("SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'neon_migration'"),
        ["cloud_admin"]
      )
    })
  )

  it.effect("S-130 migrations do not run twice, and a newer cluster is left alone", () =>
    Effect.gen(function* () {
      const { column, sql } = yield* Server
      yield* sql("REVOKE pg_monitor FROM neon_superuser")
      assert.strictEqual(yield* run, 12)
      assert.deepStrictEqual(yield* column(memberWithAdmin("pg_monitor")), [])
      yield* sql("UPDATE neon_migration.migration_id SET id = 99")
      assert.strictEqual(yield* run, 99)
    })
  )

  it.effect("a failure in the background is counted once, by its number", () =>
    Effect.gen(function* () {
      const { provide, sql } = yield* Server
      const counted: Array<number> = []
      yield* sql(`UPDATE neon_migration.migration_id SET id = 3; ${stopAfter(6)}`)
      yield* provide(migrateQuietly("neon_superuser", (id) => Effect.sync(() => void counted.push(id))))
      assert.deepStrictEqual(counted, [7])
    })
  )
})
