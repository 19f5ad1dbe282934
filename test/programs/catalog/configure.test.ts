import * as fs from "node:fs/promises"
import { join } from "node:path"
import { assert, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ParsedSpec } from "../../../src/domain/ParsedSpec.ts"
import { DataDirectory } from "../../../src/layers/DataDirectory.ts"
import { Owner } from "../../../src/layers/Owner.ts"
import { Params } from "../../../src/layers/Params.ts"
import * as PgWire from "../../../src/layers/PgWire.ts"
import { Sql } from "../../../src/layers/Sql.ts"
import { configureAsPrimary, type Hooks } from "../../../src/programs/catalog/configure.ts"
import { nodeParams } from "../../support/params.ts"
import { type Document, parsedSpecOf, Server } from "./server.ts"

const overrideFile = "compute_ctl_temp_override.conf"

/** Configures, and tells what the override file held at each reload. */
const configure = (
  document: Document,
  mode: "start" | "reconfigure",
  change: Partial<ParsedSpec["spec"]> = {},
  hooks: Pick<Hooks, "limits"> = {},
  sql: Layer.Layer<Sql, never, Params> = Sql.layer
) =>
  Effect.gen(function* () {
    const { pgdata, pid, target, user } = yield* Server
    const parsed = parsedSpecOf(document)
    const reloads: Array<string> = []
    let timeouts = 0
    const reload = Effect.promise(async () => {
      reloads.push(await fs.readFile(join(pgdata, overrideFile), "utf8"))
      process.kill(pid(), "SIGHUP")
    })
    const layers = Layer.merge(sql, DataDirectory.layer).pipe(
      Layer.provideMerge(Layer.succeed(Params, nodeParams({ pgdata, postgres: target }))),
      Layer.provideMerge(Layer.succeed(Owner, Owner.of({ user })))
    )
    const result = yield* configureAsPrimary({ ...parsed, spec: { ...parsed.spec, ...change } }, mode, {
      reload,
      pendingRestart: () => Effect.void,
      migrationFailed: () => Effect.void,
      statementTimedOut: Effect.sync(() => {
        timeouts++
      }),
      ...hooks,
      applied: () => Effect.void
    }).pipe(Effect.provide(layers), Effect.result)
    return { reloads, result, timeouts }
  })

/** Sessions of a server whose limit leaves no room for a verifier, as the library of Neon keeps it. */
const limited = Layer.effect(
  Sql,
  Effect.gen(function* () {
    const { postgres } = yield* Params
    const sql = yield* Effect.provide(Sql, Sql.to(postgres))
    return Sql.of({
      connect: (options) =>
        Effect.map(sql.connect(options), (session) => ({
          ...session,
          query: (text: string) =>
            Effect.gen(function* () {
              const [set] = yield* session.query("SELECT current_setting('neon.max_cluster_size', true)")
              return text.startsWith("ALTER ROLE") && set?.rows[0]?.[0] !== "-1"
                ? yield* new PgWire.PgError({ message: "could not extend file", code: "53100" })
                : yield* session.query(text)
            })
        }))
    })
  })
)

const override = Effect.flatMap(Server, ({ pgdata }) =>
  Effect.promise(() => fs.readFile(join(pgdata, overrideFile), "utf8").catch(() => undefined))
)

layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })("configureAsPrimary", (it) => {
  it.effect("S-025 with skip_pg_catalog_updates nothing is created", () =>
    Effect.gen(function* () {
      const { column } = yield* Server
      const { reloads, result } = yield* configure({ roles: [{ name: "a" }] }, "start", {
        skip_pg_catalog_updates: true
      })
      assert.strictEqual(result._tag, "Success")
      assert.deepStrictEqual(reloads, [])
      assert.deepStrictEqual(yield* column("SELECT rolname FROM pg_roles WHERE rolname IN ('a', 'neon_superuser')"), [])
    })
  )

  it.effect("S-169 a replica's catalogs are left alone", () =>
    Effect.gen(function* () {
      const { column } = yield* Server
      yield* configure({ roles: [{ name: "a" }] }, "start", { mode: { _tag: "Replica" } })
      assert.deepStrictEqual(yield* column("SELECT rolname FROM pg_roles WHERE rolname IN ('a', 'neon_superuser')"), [])
    })
  )

  it.effect(
    "S-024 S-116 S-121 limits are lifted during the apply and back after it; subscribers run; migrations follow",
    () =>
      Effect.gen(function* () {
        const { column, pgdata } = yield* Server
        const { reloads, result } = yield* configure({ roles: [{ name: "a" }] }, "start", {
          drop_subscriptions_before_start: true
        })
        assert.strictEqual(result._tag, "Success")
        assert.deepStrictEqual(reloads, ["neon.max_cluster_size=-1", ""])
        assert.strictEqual(yield* override, "")
        assert.deepStrictEqual(yield* column("SELECT current_setting('neon.max_cluster_size', true)"), [""])
        const conf = yield* Effect.promise(() => fs.readFile(join(pgdata, "postgresql.conf"), "utf8"))
        assert.strictEqual(conf.split("\n").at(-1), "neon.disable_logical_replication_subscribers=false")
        assert.deepStrictEqual(
          yield* column("SELECT current_setting('neon.disable_logical_replication_subscribers', true)"),
          ["false"]
        )
        while ((yield* column("SELECT to_regclass('neon_migration.migration_id') IS NOT NULL"))[0] !== "t") {
          yield* Effect.sleep("10 millis")
        }
        while ((yield* column("SELECT id FROM neon_migration.migration_id"))[0] !== "12")
          yield* Effect.sleep("10 millis")
      })
  )

  it.effect("a failed apply names its objects, and the limits are back all the same", () =>
    Effect.gen(function* () {
      const { reloads, result } = yield* configure({ roles: [{ name: "pg_reserved" }] }, "reconfigure")
      assert.strictEqual(result._tag, "Failure")
      if (result._tag === "Failure") {
        assert.strictEqual(result.failure._tag, "CatalogFailed")
        assert.include(result.failure.message, 'role "pg_reserved"')
      }
      assert.deepStrictEqual(reloads, ["neon.max_cluster_size=-1", ""])
      assert.strictEqual(yield* override, "")
    })
  )

  it.effect("a document that holds, and one with another password, leave the limits alone", () =>
    Effect.gen(function* () {
      const { column } = yield* Server
      const document = { roles: [{ name: "b", encrypted_password: "0".repeat(32) }] }
      assert.deepStrictEqual((yield* configure(document, "reconfigure")).reloads, ["neon.max_cluster_size=-1", ""])
      assert.deepStrictEqual((yield* configure(document, "reconfigure")).reloads, [])
      const changed = { roles: [{ name: "b", encrypted_password: "1".repeat(32) }] }
      assert.deepStrictEqual((yield* configure(changed, "reconfigure")).reloads, [])
      assert.deepStrictEqual(yield* column("SELECT rolpassword FROM pg_authid WHERE rolname = 'b'"), [
        `md5${"1".repeat(32)}`
      ])
    })
  )

  it.effect("S-024 a password that the limit leaves no room for is changed with the limit lifted", () =>
    Effect.gen(function* () {
      const { column } = yield* Server
      const changed = { roles: [{ name: "b", encrypted_password: "2".repeat(32) }] }
      const { reloads, result } = yield* configure(changed, "reconfigure", {}, {}, limited)
      assert.strictEqual(result._tag, "Success")
      assert.deepStrictEqual(reloads, ["neon.max_cluster_size=-1", ""])
      assert.strictEqual(yield* override, "")
      assert.deepStrictEqual(yield* column("SELECT rolpassword FROM pg_authid WHERE rolname = 'b'"), [
        `md5${"2".repeat(32)}`
      ])
    })
  )

  it.effect("a statement that its time-out ends is counted and named", () =>
    Effect.gen(function* () {
      const { target } = yield* Server
      const session = yield* PgWire.connect({ target })
      yield* session.query("BEGIN; LOCK TABLE pg_catalog.pg_authid IN SHARE MODE")
      const limits = { statement: Duration.millis(300) }
      const { result, timeouts } = yield* configure({ roles: [{ name: "late" }] }, "reconfigure", {}, { limits })
      assert.strictEqual(timeouts, 1)
      assert.strictEqual(result._tag, "Failure")
      if (result._tag === "Failure") assert.include(result.failure.message, 'create_role role "late": canceling')
    })
  )

  it.effect("a name that is too long is refused before the first statement, with its field", () =>
    Effect.gen(function* () {
      const { column } = yield* Server
      const { result } = yield* configure({ roles: [{ name: "fine" }, { name: "x".repeat(64) }] }, "reconfigure")
      assert.strictEqual(result._tag, "Failure")
      if (result._tag === "Failure") assert.include(result.failure.message, "cluster.roles[1].name: 64 bytes")
      assert.deepStrictEqual(yield* column("SELECT 1 FROM pg_roles WHERE rolname = 'fine'"), [])
    })
  )
})
