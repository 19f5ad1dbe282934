/** A disk that is full, a server that dies or hangs in the middle: a report, no hang, and the next apply makes it good. */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { describeLine } from "../../../src/domain/describe.ts"
import type { CatalogFailed } from "../../../src/programs/catalog/apply.ts"
import { findInstall, isQuick, major, temporary } from "../../support/postgres.ts"
import { databases, owned } from "./documents.ts"
import { takePicture } from "./picture.ts"
import { type ApplyWish, type Document, makeServer, quiet, Server } from "./server.ts"

const failuresOf = (failure: CatalogFailed) =>
  failure.report?.failures.map(({ object, operation, outcome, sqlstate }) => [operation, object, outcome, sqlstate])

/** A disk of its own, in memory. Only root can make one. */
const smallDisk = (megabytes: number) =>
  Effect.gen(function* () {
    const { user } = yield* findInstall
    const path = yield* temporary(user)
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        execFileSync("mount", [
          "-t",
          "tmpfs",
          "-o",
          `size=${megabytes}m,mode=0700,uid=${user?.uid ?? 0}`,
          "tmpfs",
          path
        ])
      }),
      () => Effect.sync(() => execFileSync("umount", [path]))
    )
    return path
  })

const isRoot = process.getuid?.() === 0

describe.runIf(isRoot)("a full disk", () => {
  it.live("fails the database that does not fit; others are made, and it is once there is room", () =>
    Effect.gen(function* () {
      const disk = yield* smallDisk(5)
      const { apply, column, sql } = yield* makeServer({ neon: true })
      yield* sql(`CREATE TABLESPACE small LOCATION '${disk}'`)
      // From 15 on the server by itself leaves the writing of the pages to others, later.
      const copied = major < 15 ? [] : [{ name: "STRATEGY", value: "file_copy", vartype: "enum" }]
      const options = [{ name: "TABLESPACE", value: "small", vartype: "enum" }, ...copied]
      const { databases: others = [], roles: owners = [] } = owned(["a", "large", "z"])
      const document: Document = {
        roles: owners,
        databases: others.map((database) =>
          Object(database).name === "large" ? { ...Object(database), options } : database
        )
      }
      const failure = yield* Effect.flip(apply(document))
      assert.deepStrictEqual(failuresOf(failure), [
        ["create_database", 'database "large"', "failed", "53100"],
        ["finish_database", 'database "large"', "skipped", undefined]
      ])
      assert.deepStrictEqual(yield* column(databases), ["a", "z"])
      assert.isUndefined((yield* Effect.flip(apply(document))).report?.counts["create_database"])
      execFileSync("mount", ["-o", "remount,size=64m", disk])
      assert.deepStrictEqual((yield* apply(document)).failures, [])
      assert.deepStrictEqual(yield* column(databases), ["a", "large", "z"])
    }).pipe(Effect.provide(quiet))
  )

  it.live("under the whole of PGDATA stops what needs room, and nothing is half made", () =>
    Effect.gen(function* () {
      const disk = yield* smallDisk(160)
      const server = yield* makeServer({ neon: true, volume: disk, conf: "min_wal_size = 32MB\nmax_wal_size = 32MB" })
      const { apply, column } = server
      yield* apply({})
      const filler = join(disk, "filler")
      const { bavail, bsize } = yield* Effect.promise(() => fs.statfs(disk))
      yield* Effect.promise(() => fs.writeFile(filler, Buffer.alloc(bavail * bsize - 20 * 1024 * 1024)))
      const names = Array.from({ length: 5 }, (_, index) => `db${index}`)
      const failure = yield* Effect.flip(apply(owned(names)))
      const failures = failure.report?.failures ?? []
      assert.isNotEmpty(failures)
      // Without room for its log the server ends all of its sessions.
      for (const { outcome, sqlstate = "closed", message } of failures) {
        if (outcome === "failed") assert.match(`${sqlstate} ${message}`, /^(?:53100|57P0\d|closed) /u)
      }
      assert.include(yield* server.log, "No space left on device")
      for (const { object } of failures) assert.match(object, /^(?:database|contents of database|table) /u)
      yield* Effect.promise(() => fs.rm(filler))
      yield* server.start
      assert.deepStrictEqual((yield* apply(owned(names))).failures, [])
      assert.deepStrictEqual(yield* column(databases), names)
      assert.deepStrictEqual((yield* apply(owned(names), { mode: "full" })).results, [])
    }).pipe(Effect.provide(quiet))
  )
})

layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })("a server", (it) => {
  const names = ["one", "two", "three"]

  /** An apply that waits inside of one database. */
  const waiting = (limits: ApplyWish["limits"] = {}) =>
    Effect.gen(function* () {
      const { apply, column, connect } = yield* Server.wiped
      yield* apply(owned(["one", "two"]))
      const session = yield* connect("two")
      yield* session.query("BEGIN; LOCK TABLE pg_catalog.pg_namespace IN ACCESS EXCLUSIVE MODE")
      const applying = yield* Effect.forkScoped(Effect.flip(apply(owned(names), { mode: "full", limits })))
      const waits = column("SELECT pid FROM pg_locks WHERE NOT granted")
      const [pid] = yield* Effect.repeat(waits, { until: (pids) => pids.length > 0 }).pipe(Effect.timeout("20 seconds"))
      return { applying, pid: Number(pid), release: session.query("ROLLBACK") }
    })

  const entering = ["enter_database", 'contents of database "two"']

  it.effect.each(["SIGKILL", "SIGQUIT", "SIGINT"] as const)("that ends by %s in the middle ends the apply", (signal) =>
    Effect.gen(function* () {
      const server = yield* Server
      const { apply, kill, start } = server
      const { applying } = yield* waiting()
      yield* kill(signal)
      const failure = yield* Fiber.join(applying)
      const failed = failure.report?.failures.map(({ object, operation }) => `${operation} ${object}`)
      assert.include(failed ?? [], entering.join(" "))
      yield* start
      assert.deepStrictEqual((yield* apply(owned(names), { mode: "full" })).failures, [])
      const made = yield* takePicture(server)
      yield* Server.wiped
      yield* apply(owned(names))
      assert.deepStrictEqual(made, yield* takePicture(server))
    }).pipe(Effect.scoped)
  )

  // It is given some seconds more than its deadline.
  it.effect.skipIf(isQuick)("whose process for us hangs does not hang the apply, and others are done", () =>
    Effect.gen(function* () {
      const { apply, column } = yield* Server
      const { applying, pid, release } = yield* waiting({ statement: "5 seconds" })
      process.kill(pid, "SIGSTOP")
      const failure = yield* Fiber.join(applying).pipe(Effect.ensuring(Effect.sync(() => process.kill(pid, "SIGCONT"))))
      assert.deepStrictEqual(failuresOf(failure), [[...entering, "failed", "57014"]])
      assert.deepStrictEqual(yield* column(databases), ["one", "three", "two"])
      yield* release
      assert.deepStrictEqual((yield* apply(owned(names), { mode: "full" })).failures, [])
    }).pipe(Effect.scoped)
  )

  it.effect("that does not answer ends the apply within the deadline for connections", () =>
    Effect.gen(function* () {
      const { apply, pid } = yield* Server.wiped
      yield* apply({})
      process.kill(pid(), "SIGSTOP")
      const failure = yield* Effect.flip(apply(owned(names), { limits: { connect: "300 millis" } })).pipe(
        Effect.ensuring(Effect.sync(() => process.kill(pid(), "SIGCONT")))
      )
      assert.match(describeLine(failure), /^the catalogs could not be read: .* was not ready within 300ms$/u)
    })
  )
})
