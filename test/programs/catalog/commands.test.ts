/** What `compute_ctl plan` and `compute_ctl validate` print, and their exit codes. */
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Plan from "../../../src/cli/plan.ts"
import * as Validate from "../../../src/cli/validate.ts"
import { type Document, Server } from "./server.ts"

const decodePlan = Schema.decodeUnknownEffect(
  Schema.fromJsonString(
    Schema.Struct({
      operations: Schema.Array(
        Schema.Struct({
          operation: Schema.String,
          object: Schema.String,
          database: Schema.String,
          sql: Schema.Array(Schema.String)
        })
      ),
      warnings: Schema.Array(Schema.String)
    })
  )
)

const write = (text: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const folder = await fs.mkdtemp(join(tmpdir(), "compute-config-"))
      await fs.writeFile(join(folder, "config.json"), text)
      return join(folder, "config.json")
    }),
    (path) => Effect.promise(() => fs.rm(join(path, ".."), { recursive: true }))
  )

const config = ({ databases = [], deltas = [], more = {}, roles = [] }: Document) =>
  JSON.stringify({
    spec: {
      format_version: 1,
      suspend_timeout_seconds: -1,
      tenant_id: "f".repeat(32),
      timeline_id: "e".repeat(32),
      pageserver_connstring: "postgresql://localhost",
      safekeeper_connstrings: ["localhost:1"],
      cluster: { roles, databases },
      delta_operations: deltas,
      ...more
    },
    compute_ctl_config: { jwks: { keys: [] } }
  })

/** What is written to stdout and stderr while it runs. */
const captured = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const output = { stdout: "", stderr: "" }
      const [out, err] = [process.stdout.write, process.stderr.write]
      process.stdout.write = (text) => {
        output.stdout += String(text)
        return true
      }
      process.stderr.write = (text) => {
        output.stderr += String(text)
        return true
      }
      return { output, out, err }
    }),
    ({ output }) => Effect.map(self, (code) => ({ code, ...output })),
    ({ err, out }) =>
      Effect.sync(() => {
        process.stdout.write = out
        process.stderr.write = err
      })
  )

const runPlan = (text: string, json = false) =>
  Effect.gen(function* () {
    const { target } = yield* Server
    const params = { postgres: target, privilegedRoleName: "neon_superuser", lakebaseMode: false, full: false, json }
    return yield* captured(Plan.main({ config: yield* write(text), ...params }))
  })

const runValidate = (text: string, json = false) =>
  Effect.flatMap(write(text), (path) => captured(Validate.main({ config: path, json })))

layer(Server.vanilla, { excludeTestServices: true, timeout: 60_000 })("commands", (it) => {
  const secret = "2e7535f355c639573f1853ccec7a03d0"
  const document: Document = {
    roles: [{ name: "line\nbreak; DROP TABLE x", encrypted_password: secret }],
    databases: [{ name: "app", owner: "line\nbreak; DROP TABLE x" }]
  }

  it.effect("plan prints the statements and why, without verifiers, and changes nothing", () =>
    Effect.gen(function* () {
      const { column } = yield* Server
      const { code, stderr, stdout } = yield* runPlan(config(document))
      assert.strictEqual(code, 3)
      assert.notInclude(stdout, secret)
      assert.include(stdout, "PASSWORD '********'")
      assert.include(stdout, '-- create_role role "line\\u000abreak; DROP TABLE x": it does not exist')
      assert.include(stdout, 'CREATE DATABASE "app" OWNER "line\nbreak; DROP TABLE x";')
      assert.include(stdout, '-- in database "app"\nALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES')
      assert.include(stderr, 'warning: extension "neon" is not available')
      assert.deepStrictEqual(yield* column("SELECT count(*) FROM pg_roles WHERE rolname = 'neon_superuser'"), ["0"])
    })
  )

  it.effect("plan says that there is nothing to do once the document is applied, and what has drifted since", () =>
    Effect.gen(function* () {
      const { apply, sql } = yield* Server
      yield* apply({ ...document, timelineId: "e".repeat(32) })
      const done = yield* runPlan(config(document))
      assert.deepStrictEqual([done.code, done.stdout], [0, "nothing to do\n"])
      yield* sql("ALTER DATABASE app OWNER TO cloud_admin")
      const drifted = yield* runPlan(config(document), true)
      assert.strictEqual(drifted.code, 3)
      const { operations } = yield* decodePlan(drifted.stdout)
      assert.deepStrictEqual(
        operations.map(({ database, object, operation }) => [operation, object, database]),
        [
          ["alter_database_owner", 'database "app"', "postgres"],
          ["remember_contents", "table neon_migration.catalog_state", "postgres"]
        ]
      )
      assert.strictEqual(operations[0]?.sql[0], 'ALTER DATABASE "app" OWNER TO "line\nbreak; DROP TABLE x"')
    })
  )

  it.effect("plan reads the inside of a database that is about to be renamed", () =>
    Effect.gen(function* () {
      const deltas = [{ action: "rename_db", name: "app", new_name: "app2" }]
      const { code, stdout } = yield* runPlan(
        config({ ...document, databases: [{ name: "app2", owner: "cloud_admin" }], deltas })
      )
      assert.strictEqual(code, 3)
      assert.include(stdout, 'ALTER DATABASE "app" RENAME TO "app2";')
    })
  )

  it.effect("plan tells why it cannot", () =>
    Effect.gen(function* () {
      const bad = yield* runPlan(config({ roles: [{ name: "x".repeat(64) }] }))
      assert.strictEqual(bad.code, 1)
      assert.include(bad.stderr, "spec.cluster.roles[0].name: 64 bytes are too long for a name")
      assert.strictEqual((yield* runPlan("{")).code, 1)
      assert.strictEqual((yield* runPlan('{"compute_ctl_config":{"jwks":{"keys":[]}}}')).code, 1)
      const machine = yield* runPlan(config({ roles: [{ name: "x".repeat(64) }] }), true)
      assert.deepStrictEqual([machine.code, machine.stderr], [1, ""])
      assert.deepStrictEqual(JSON.parse(machine.stdout), {
        error: {
          field: "spec.cluster.roles[0].name",
          message: "spec.cluster.roles[0].name: 64 bytes are too long for a name, the limit is 63"
        }
      })
    })
  )

  it.effect("plan warns of an owner that nobody makes, and of a document that no node would apply", () =>
    Effect.gen(function* () {
      const { stderr } = yield* runPlan(config({ databases: [{ name: "d", owner: "ghost" }] }))
      assert.include(stderr, 'warning: role "ghost", the owner of database "d", neither exists nor is to be made\n')
      const skipped = yield* runPlan(config({ more: { skip_pg_catalog_updates: true } }))
      assert.include(skipped.stderr, "warning: skip_pg_catalog_updates: a node would leave the catalogs alone\n")
      const replica = yield* runPlan(config({ more: { mode: "Replica" } }))
      assert.include(replica.stderr, "warning: mode is not Primary: a node would leave the catalogs alone\n")
    })
  )

  it.effect("validate accepts a good document and names the field of a bad one", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* runValidate(config(document))).code, 0)
      const cases: ReadonlyArray<readonly [string, string]> = [
        [config({ roles: [{ name: 1 }] }), "spec.cluster.roles[0].name: Expected string"],
        [config({ roles: [{ name: "a", encrypted_password: "x" }] }), "spec.cluster.roles[0].encrypted_password: "],
        [config({ databases: [{ name: "", owner: "a" }] }), "spec.cluster.databases[0].name: "],
        [config({ deltas: [{ action: "rename_db", name: "a" }] }), "spec.delta_operations[0].new_name: "],
        [config({ more: { safekeeper_connstrings: ["a:1", "a:1"] } }), "spec.safekeeper_connstrings: duplicate entry"]
      ]
      for (const [text, message] of cases) {
        const { code, stderr } = yield* runValidate(text)
        assert.strictEqual(code, 1)
        assert.include(stderr, message)
        const machine = yield* runValidate(text, true)
        assert.include(machine.stdout, `"field":"${message.slice(0, message.indexOf(":"))}"`)
      }
    })
  )
})
