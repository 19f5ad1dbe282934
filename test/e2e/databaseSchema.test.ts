/**
 * `GET /database_schema` with the machine's own `pg_dump` and a server that is not newer than it.
 *
 * npm has no `pg_dump`. What these tests need is named where it is missing, and they are skipped then.
 */
import { execFileSync } from "node:child_process"
import { existsSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { majors } from "../../src/domain/PostgresVersion.ts"
import * as PostgresInstall from "../../src/local/PostgresInstall.ts"
import { type BedOptions, makeBed } from "../support/bed.ts"
import { eventually, isAlive } from "../support/compute.ts"
import { processesOf } from "../support/leftovers.ts"

/** Major version of the `pg_dump` that a node of these tests finds; undefined where there is none. */
const installed = ((): number | undefined => {
  try {
    const env = { PATH: "/usr/bin:/bin" }
    return Number(/\) (\d+)/u.exec(execFileSync("pg_dump", ["--version"], { env, encoding: "utf8" }))?.[1])
  } catch {
    return undefined
  }
})()

/** A server for it, the newest that will do; else what to install. */
const findServer = Effect.gen(function* () {
  if (installed === undefined) return "apt-get install postgresql-client"
  let advice = "a newer pg_dump"
  for (const major of majors.toReversed().filter((candidate) => candidate <= installed)) {
    const options = { major, user: undefined, cacheDir: "/nonexistent" }
    const found = yield* Effect.result(PostgresInstall.find(options))
    if (Result.isSuccess(found) || found.failure._tag === "PostgresUnusable") return { _tag: "Bundled", major } as const
    const bindir = `/usr/lib/postgresql/${major}/bin`
    if (existsSync(`${bindir}/postgres`)) return { _tag: "Bindir", bindir } as const
    if (major === installed) advice = found.failure.message
  }
  return advice
})

const server = await Effect.runPromise(findServer)
const missing = typeof server === "string" ? server : undefined
const options: BedOptions = typeof server === "string" ? {} : { postgres: server }

describe.skipIf(missing !== undefined)(
  `a real pg_dump${missing === undefined ? "" : ` (it needs: ${missing})`}`,
  () => {
    it.live("S-132 S-134 dumps what was defined, and no row", () =>
      Effect.gen(function* () {
        const bed = yield* makeBed(options)
        const node = yield* bed.run()
        const names = [
          "neondb",
          `quo"te's $1 =x`,
          "🐘 ".repeat(12).trim(),
          "x".repeat(63),
          "postgresql://localhost/other"
        ]
        for (const name of names) {
          const quoted = `"${name.replaceAll('"', '""')}"`
          yield* node.sql(`CREATE DATABASE ${quoted}`)
          yield* node.sql("CREATE TABLE answers (answer int); INSERT INTO answers VALUES (424242)", name)
          const path = `/database_schema?database=${encodeURIComponent(name)}`
          const reply = yield* node.external(`GET ${path}`)
          expect(reply.status, reply.text).toBe(200)
          expect(reply.headers["content-type"]).toBe("application/json")
          expect(reply.text).toMatch(/CREATE TABLE public\.answers \(\n +answer integer\n\)/u)
          expect(reply.text).toMatch(/-- PostgreSQL database dump complete\n--\n+(?:\\unrestrict \S+\n+)?$/u)
          expect(reply.text).not.toMatch(/424242|health_check|migration/u)
        }
        const without = yield* node.external("GET /database_schema")
        expect([without.status, without.json]).toEqual([400, { error: expect.stringContaining("missing field") }])
        yield* node.stop
      })
    )

    it.live("S-133 an unknown name is 404, also one that Postgres would cut to a known one", () =>
      Effect.gen(function* () {
        const bed = yield* makeBed(options)
        const node = yield* bed.run()
        const known = "x".repeat(63)
        yield* node.sql(`CREATE DATABASE ${known}`)
        for (const name of ["nonexistentdb", `${known}y`, "", "POSTGRES", "cloud_admin"]) {
          const reply = yield* node.external(`GET /database_schema?database=${name}`)
          expect([reply.status, reply.json], name).toEqual([404, { error: "database does not exist" }])
        }
        yield* node.stop
      })
    )

    it.live("what pg_dump cannot do is 500 with the reason", () =>
      Effect.gen(function* () {
        const bed = yield* makeBed(options)
        const node = yield* bed.run()
        yield* node.sql("CREATE DATABASE closed ALLOW_CONNECTIONS false")
        const reply = yield* node.external("GET /database_schema?database=closed")
        expect([reply.status, reply.json]).toEqual([
          500,
          { error: expect.stringMatching(/^failed to execute pg_dump: .*"closed" is not currently accepting/u) }
        ])
        yield* node.stop
      })
    )

    it.live("S-135 a dump that waits for a lock ends with its reader, and on the server, too", () =>
      Effect.gen(function* () {
        const bed = yield* makeBed(options)
        const node = yield* bed.run()
        yield* node.sql("CREATE TABLE locked (a int)")
        const session = yield* node.session
        yield* session.query("BEGIN; LOCK TABLE locked")
        const waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        const dumps = Effect.map(
          Effect.promise(() => processesOf(bed.directory)),
          (processes) => processes.filter(({ command }) => command.includes("--schema-only")).map(({ pid }) => pid)
        )
        const pids = yield* Effect.raceFirst(
          Effect.as(node.external("GET /database_schema?database=postgres"), []),
          Effect.suspend(() => session.query(waiting)).pipe(
            Effect.repeat({ until: ([set]) => set?.rows[0]?.[0] === "1" }),
            Effect.andThen(dumps)
          )
        )
        expect(pids).not.toEqual([])
        yield* eventually("pg_dump is gone", () => !pids.some(isAlive))
        yield* Effect.suspend(() => session.query(waiting)).pipe(
          Effect.repeat({ until: ([set]) => set?.rows[0]?.[0] === "0" }),
          Effect.timeout("10 seconds")
        )
        yield* session.query("ROLLBACK")
        yield* node.stop
      })
    )
  }
)

it.live.skipIf(installed === undefined || installed >= PostgresInstall.bundledMajor)(
  "a pg_dump that is older than the server is 500 with both versions",
  () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const reply = yield* node.external("GET /database_schema?database=postgres")
      expect([reply.status, reply.json]).toEqual([
        500,
        { error: expect.stringMatching(/pg_dump is older than the server, install .* server version: 17\./u) }
      ])
      yield* node.stop
    })
)
