/** PGDATA after a start: what is in it, whose it is, and what was done with what had been there. */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Owner from "../../src/layers/Owner.ts"
import golden from "../golden/conf/minimal.json" with { type: "json" }
import { makeBed } from "../support/bed.ts"
import { isAlive } from "../support/compute.ts"
import { changeImage, readImage } from "../support/image.ts"

const promise = Effect.promise

/** Undefined where this process is not root, or where there is no such user. */
const nobody = await Effect.runPromise(Effect.catch(Owner.resolve("nobody"), () => Effect.succeed(undefined)))

/** Each entry as `path type mode`; names that vary are folded together. */
const treeOf = async (root: string, path = "."): Promise<ReadonlyArray<string>> => {
  const stats = await fs.lstat(join(root, path)).catch(() => undefined)
  if (stats === undefined) return [] // a temporary file of the running server
  const type = stats.isDirectory() ? "d" : stats.isSymbolicLink() ? "l" : "f"
  const shown = path.replace(/^base\/\d+/u, "base/#")
  const folder = shown.slice(0, shown.lastIndexOf("/"))
  const varying = [
    "base/#",
    "global",
    "pg_logical",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_wal",
    "pg_xact"
  ]
  const name = type === "f" && varying.includes(folder) ? `${folder}/*` : shown
  const target = type === "l" ? ` -> ${await fs.readlink(join(root, path))}` : ""
  const line = `${name} ${type} ${(stats.mode & 0o7777).toString(8).padStart(4, "0")}${target}`
  if (type !== "d") return [line]
  const names = await fs.readdir(join(root, path))
  const below = await Promise.all(names.map((one) => treeOf(root, path === "." ? one : `${path}/${one}`)))
  return [...new Set([line, ...below.flat()])].sort()
}

describe("a cold start", () => {
  it.live("S-015 goes through init to running, and Postgres answers", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start()
      const first = yield* node.waitFor("init")
      expect(first).toMatchObject({ tenant: bed.storage.tenantId, timeline: bed.storage.timelineId })
      const status = yield* node.waitFor("running")
      expect(status).toEqual({
        start_time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/u),
        tenant: bed.storage.tenantId,
        timeline: bed.storage.timelineId,
        status: "running",
        last_active: null,
        error: null
      })
      expect(yield* node.sql("SELECT 1")).toEqual([["1"]])
      expect(node.stderr()).toContain("Changing compute status from init to running")
      yield* node.stop
    })
  )

  it.live("S-016 removes what an earlier run left, and makes PGDATA private", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { pgdata } = yield* bed.place()
      yield* promise(async () => {
        await fs.mkdir(join(pgdata, "old/deep"), { recursive: true })
        await fs.chmod(pgdata, 0o755)
        await fs.writeFile(join(pgdata, "old/deep/file"), "old")
        await fs.writeFile(join(pgdata, "postmaster.pid"), "1\n")
      })
      const node = yield* bed.run()
      const names = yield* promise(() => fs.readdir(pgdata))
      expect(names).not.toContain("old")
      const stats = yield* promise(() => fs.stat(pgdata))
      expect(stats.mode & 0o7777).toBe(0o700)
      if (bed.user !== undefined) expect([stats.uid, stats.gid]).toEqual([bed.user.uid, bed.user.gid])
      yield* node.stop
    })
  )

  it.live("leaves the tree that the original leaves", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const tree = yield* promise(() => treeOf(node.pgdata))
      // PostgreSQL 17 has one directory more than 15.
      expect(tree).toEqual([...golden.tree, "pg_wal/summaries d 0755"].sort())
      yield* node.stop
    })
  )

  it.live("S-026 puts shared memory segments into /dev/shm", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      expect(yield* promise(() => fs.readlink(join(node.pgdata, "pg_dynshmem")))).toBe("/dev/shm/")
      yield* node.stop
    })
  )

  it.live("S-027 takes neon.signal from zenith.signal where the base backup has none", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      yield* changeImage(bed, { "neon.signal": undefined, "zenith.signal": "PREV LSN: none" })
      const node = yield* bed.run()
      expect(yield* node.file("neon.signal")).toBe("PREV LSN: none")
      expect(yield* node.file("zenith.signal")).toBe("PREV LSN: none")
      yield* node.stop
      yield* changeImage(bed, { "neon.signal": "PREV LSN: 0/1", "zenith.signal": "PREV LSN: none" })
      const again = yield* bed.run()
      expect(yield* again.file("neon.signal")).toBe("PREV LSN: 0/1")
      yield* again.stop
    })
  )

  it.live("S-029 unpacks the base backup faithfully, prepared transactions too", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const conf = "max_prepared_transactions = 2"
      const node = yield* bed.run({ conf })
      yield* node.sql("CREATE DATABASE other")
      yield* node.sql("CREATE TABLE numbers (n int)")
      yield* node.sql("CREATE TABLE letters (l text); INSERT INTO letters VALUES ('a')", "other")
      // Enough transactions for many pages of the commit log.
      yield* node.sql(`DO $$ BEGIN FOR i IN 1..20000 LOOP
        BEGIN INSERT INTO numbers VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END;
      END LOOP; END $$`)
      yield* node.sql("BEGIN; INSERT INTO numbers VALUES (-1); PREPARE TRANSACTION 'later'")
      const open = yield* node.session
      yield* open.query("BEGIN; INSERT INTO numbers VALUES (-2)")
      yield* node.stop

      const seen = yield* bed.writable("seen")
      const sent = yield* readImage(bed)
      const pgbin = yield* bed.wrapper(`if [ "$1" = -D ]; then cp -a "$2" ${seen}/pgdata; fi; exec "$stub" "$@"`)
      const again = yield* bed.run({ conf, args: { "--pgbin": pgbin } })

      const files = sent.filter(({ directory, name }) => !directory && name !== "pg_hba.conf")
      expect(files.filter(({ name }) => name.startsWith("pg_twophase/"))).toHaveLength(1)
      yield* Effect.forEach(files, ({ content, name, mode }) =>
        promise(async () => {
          const path = join(seen, "pgdata", name)
          expect((await fs.readFile(path)).equals(content), name).toBe(true)
          expect((await fs.stat(path)).mode & 0o7777, name).toBe(mode)
        })
      )
      expect(yield* again.sql("SELECT count(*), min(n) FROM numbers")).toEqual([["20000", "1"]])
      yield* again.sql("COMMIT PREPARED 'later'")
      expect(yield* again.sql("SELECT count(*), min(n) FROM numbers")).toEqual([["20001", "-1"]])
      expect(yield* again.value("SELECT l FROM letters", "other")).toBe("a")
      yield* again.stop
    })
  )

  it.live("S-030 two nodes on one machine do not disturb each other", () =>
    Effect.gen(function* () {
      const beds = yield* Effect.all([makeBed(), makeBed()])
      const nodes = yield* Effect.forEach(beds, (bed) => bed.run(), { concurrency: "unbounded" })
      yield* Effect.forEach(nodes, (node, index) => node.sql(`CREATE TABLE mine AS SELECT ${index} AS number`))
      for (const [index, node] of nodes.entries()) {
        expect(yield* node.value("SELECT number FROM mine")).toBe(String(index))
      }
      yield* Effect.forEach(nodes, (node) => node.stop, { concurrency: "unbounded" })
    })
  )

  it.live.skipIf(nobody === undefined)("P6 as root, Postgres and its files are another user's, as --run-as says", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      // The stub serves the default user alone.
      const real = join(bed.storage.install.bindir, "postgres")
      for (const [user, args] of [
        [bed.user, {}],
        [nobody, { "--run-as": "nobody", "--pgbin": real }]
      ] as const) {
        const node = yield* bed.run({ args })
        const { uid } = yield* promise(async () =>
          fs.stat(`/proc/${(await fs.readFile(join(node.pgdata, "postmaster.pid"), "utf8")).split("\n")[0]}`)
        )
        expect(uid).toBe(user?.uid)
        for (const file of [".", "postgresql.conf", "pg_hba.conf", "global/pg_control", "base/1"]) {
          const stats = yield* promise(() => fs.stat(join(node.pgdata, file)))
          expect([stats.uid, stats.gid], file).toEqual([user?.uid, user?.gid])
        }
        yield* node.stop
      }
    })
  )

  it.live("stops a Postgres that a killed run left in PGDATA, and starts from the storage", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      yield* node.sql("CREATE TABLE unsaved (n int)")
      const orphan = yield* node.postmaster
      yield* node.signal("SIGKILL")
      expect((yield* node.exit).signal).toBe("SIGKILL")
      expect(isAlive(orphan)).toBe(true)
      const again = yield* bed.run()
      expect(isAlive(orphan)).toBe(false)
      expect(again.stderr()).toContain(`an earlier run left Postgres ${orphan} running`)
      expect(yield* again.value("SELECT to_regclass('unsaved')")).toBeNull()
      yield* again.stop
    })
  )

  it.live("does not follow links out of PGDATA, nor PGDATA itself where it is one", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { pgdata } = yield* bed.place()
      const outside = join(bed.directory, "outside")
      const precious = join(outside, "precious")
      yield* promise(async () => {
        await fs.mkdir(outside)
        await fs.writeFile(precious, "data")
        await fs.mkdir(pgdata)
        await fs.symlink(outside, join(pgdata, "pg_wal"))
        await fs.symlink(precious, join(pgdata, "postgresql.conf"))
      })
      const node = yield* bed.run()
      expect(yield* promise(() => fs.readFile(precious, "utf8"))).toBe("data")
      yield* node.stop
      yield* promise(async () => {
        await fs.rm(pgdata, { recursive: true })
        await fs.symlink(outside, pgdata)
      })
      const again = yield* bed.run()
      expect(yield* promise(() => fs.readdir(outside))).toEqual(["precious"])
      expect((yield* promise(() => fs.lstat(pgdata))).isDirectory()).toBe(true)
      yield* again.stop
    })
  )

  it.live("fails readably where PGDATA cannot be made", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const file = join(bed.directory, "file")
      yield* promise(() => fs.writeFile(file, ""))
      for (const [pgdata, why] of [
        [join(bed.directory, "none/pgdata"), "its parent directory"],
        [join(file, "pgdata"), "a part of the path is not a directory"]
      ] as const) {
        const error = yield* bed.failure({ args: { "--pgdata": pgdata } })
        expect(error).toContain(pgdata)
        expect(error).toContain(why)
      }
    })
  )
})
