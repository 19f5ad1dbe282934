/** What an apply costs the server, by its own log, and what it looks into. */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { makeBed, type StartOptions } from "../support/bed.ts"
import type { Compute } from "../support/compute.ts"
import { configure, confVersion } from "../support/reconfigure.ts"

const names = ["one", "two", "three"]
const digest = (digit: string): string => digit.repeat(32)

/** Everything that is sent to Postgres stands in the log of the node. */
const options = (password = digest("0"), args: StartOptions["args"] = {}): StartOptions => ({
  conf: "log_statement = all\nlog_connections = on\nlog_line_prefix = '%m %a|'",
  spec: { skip_pg_catalog_updates: false },
  args,
  document: ({ spec, ...rest }) => ({
    ...rest,
    spec: {
      ...spec,
      cluster: {
        ...Object(spec["cluster"]),
        roles: names.map((name) => ({ name, encrypted_password: name === "one" ? password : digest("1") })),
        databases: names.map((name) => ({ name, owner: name }))
      }
    }
  })
})

let marks = 0

/**
 * Connections of ours and what they sent, beginning at a position of the log; the harness is nobody of ours, and a
 * statement of its own shows that everything before it stands in the log.
 */
const sent = (node: Compute, from = 0) =>
  Effect.gen(function* () {
    const mark = `mark ${++marks}`
    yield* node.sql(`SELECT '${mark}'`)
    yield* node.logged(mark)
    const log = node.stderr().slice(from)
    return {
      connections: [...log.matchAll(/connection authorized: .*application_name=compute_ctl:(\w+)/gu)].map(
        ([, use]) => use
      ),
      statements: [...log.matchAll(/ compute_ctl:\w+\|LOG: {2}statement: (.{20})/gu)].map(([, start]) => start),
      reloads: [...log.matchAll(/received SIGHUP/gu)].length
    }
  })

/** The one read. */
const read = "SELECT pg_catalog.js"

const migrated = (node: Compute) => node.logged("Finished migration id=12")

describe("an apply where nothing changed", () => {
  it.live("S-098 costs one connection and one statement, on a running node and at a restart", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const first = yield* bed.run(options())
      yield* migrated(first)
      const version = yield* confVersion(first)
      const from = first.stderr().length
      const answer = yield* configure(bed, first, options())
      expect(answer.status, answer.text).toBe(200)
      expect(yield* sent(first, from)).toEqual({ connections: ["apply_config"], statements: [read], reloads: 0 })
      expect(yield* confVersion(first)).toBe(version)
      yield* first.stop
      const second = yield* bed.run(options())
      expect(yield* sent(second)).toEqual({ connections: ["apply_config"], statements: [read], reloads: 0 })
      expect(second.stderr()).not.toContain("handle migrations")
      yield* second.stop
    })
  )
})

describe("an apply where one thing changed", () => {
  it.live("a password costs one statement more, and no reload", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run(options())
      yield* migrated(node)
      const from = node.stderr().length
      const answer = yield* configure(bed, node, options(digest("2")))
      expect(answer.status, answer.text).toBe(200)
      expect(yield* sent(node, from)).toEqual({
        connections: ["apply_config"],
        statements: [read, 'ALTER ROLE "one"  LO'],
        reloads: 0
      })
      expect(yield* node.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'one'")).toBe(`md5${digest("2")}`)
      yield* node.stop
    })
  )

  it.live("postgresql.conf is written again where somebody has written it, also the same text", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run(options())
      yield* migrated(node)
      const path = join(node.pgdata, "postgresql.conf")
      const written = yield* Effect.promise(() => fs.readFile(path, "utf8"))
      for (const text of [`${written}\nwork_mem = '7MB'`, written]) {
        yield* Effect.promise(() => fs.writeFile(path, text))
        const from = node.stderr().length
        const answer = yield* configure(bed, node, options())
        expect(answer.status, answer.text).toBe(200)
        expect((yield* sent(node, from)).reloads).toBe(1)
        expect(yield* Effect.promise(() => fs.readFile(path, "utf8"))).toBe(written)
      }
      yield* node.stop
    })
  )
})

describe("--reconcile", () => {
  it.live("full heals what was taken away inside a database; without it an unchanged database is left alone", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const defaults = "SELECT count(*) FROM pg_default_acl"
      const drift = "ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM neon_superuser"
      for (const [mode, after] of [
        ["incremental", "1"],
        ["full", "2"]
      ] as const) {
        const node = yield* bed.run(options(digest("0"), { "--reconcile": mode }))
        yield* migrated(node).pipe(Effect.timeoutOption("5 seconds"))
        yield* node.sql(drift, "two")
        expect(yield* node.value(defaults, "two")).toBe("1")
        const answer = yield* configure(bed, node, options())
        expect(answer.status, answer.text).toBe(200)
        expect(yield* node.value(defaults, "two"), mode).toBe(after)
        const { text } = yield* node.external("GET /reconcile")
        expect(text).toContain(`"mode":"${mode}"`)
        yield* node.stop
      }
    })
  )
})
