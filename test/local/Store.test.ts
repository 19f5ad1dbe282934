import { execFile } from "node:child_process"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Lsn from "../../src/domain/Lsn.ts"
import type { LocalStorage } from "../../src/local/LocalStorage.ts"
import * as Local from "../../src/local/LocalStorage.ts"
import * as Store from "../../src/local/Store.ts"
import { configure, makeCluster, optionsFor, startServer, sync, temporaryDir, unpack } from "./fixture.ts"

type Storage = LocalStorage["Service"]

/** A storage and a folder for data directories. */
const opened = Effect.gen(function* () {
  const dir = yield* temporaryDir
  const options = yield* optionsFor(join(dir, "data"))
  return { dir, options, storage: yield* Local.make(options) }
})

const position = (storage: Storage) => Effect.map(storage.store.timeline(storage), Store.position)
const newest = (storage: Storage) => Effect.map(storage.store.timeline(storage), Store.newest)
const text = (lsn: Lsn.Lsn | undefined): string => (lsn === undefined ? "none" : Lsn.format(lsn))

/** Runs SQL on the newest state of a timeline, in a data directory of its own, and stops the server cleanly. */
const runSql = (storage: Storage, pgdata: string, sql: string) =>
  Effect.gen(function* () {
    yield* makeCluster(storage, pgdata)
    const server = yield* startServer(storage, pgdata)
    const rows = yield* server.sql(sql)
    yield* server.stop
    return rows
  }).pipe(Effect.scoped)

const names = async (archive: string): Promise<ReadonlyArray<string>> =>
  (await promisify(execFile)("tar", ["-tzf", archive])).stdout.split("\n")

const archiveNames = (storage: Storage, slots: boolean) =>
  Effect.flatMap(newest(storage), (base) => Effect.promise(() => names(storage.store.archive(storage, base, slots))))

describe("Store", () => {
  it.live("what a cleanly stopped server had is in the next base backup, and nothing of its configuration", () =>
    Effect.gen(function* () {
      const { dir, storage } = yield* opened
      const first = join(dir, "first")
      const before = yield* position(storage)
      yield* Effect.gen(function* () {
        yield* makeCluster(storage, first)
        const server = yield* startServer(storage, first)
        assert.strictEqual(yield* position(storage), undefined)
        yield* server.sql("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS i")
        yield* server.sql("ALTER SYSTEM SET work_mem = '1MB'")
        yield* Effect.promise(async () => {
          await fs.appendFile(join(first, "pg_hba.conf"), "\nhost\tall\t\tall\t\tall\t\tmd5")
          await fs.writeFile(join(first, "server.key"), "secret")
          await fs.rm(join(first, "pg_dynshmem"), { recursive: true })
          await fs.symlink("/dev/shm/", join(first, "pg_dynshmem"))
        })
        assert.strictEqual((yield* server.stop).code, 0)
      }).pipe(Effect.scoped)
      assert.strictEqual(yield* position(storage), undefined)

      const synced = yield* sync(storage, first)
      assert.deepInclude(synced, { code: 0, stderr: "" })
      assert.strictEqual(synced.stdout, `${text(yield* position(storage))}\n`)
      assert.isTrue((Lsn.parse(synced.stdout) ?? 0n) > (before ?? 0n))
      assert.strictEqual((yield* sync(storage, first)).stdout, synced.stdout)
      assert.notInclude(yield* archiveNames(storage, true), "server.key")

      const second = join(dir, "second")
      const [kept, setting] = yield* runSql(
        storage,
        second,
        "SELECT count(*) FROM kept; SELECT setting FROM pg_settings WHERE name = 'work_mem'"
      )
      assert.deepStrictEqual([kept, setting], [[["1000"]], [["4096"]]])
      assert.notInclude(yield* Effect.promise(() => fs.readFile(join(second, "pg_hba.conf"), "utf8")), "md5")
      assert.isTrue((yield* Effect.promise(() => fs.lstat(join(second, "pg_dynshmem")))).isDirectory())
    }).pipe(Effect.scoped)
  )

  it.live("a server that crashed is not published, and the timeline goes on from the last clean stop", () =>
    Effect.gen(function* () {
      const { dir, storage } = yield* opened
      const pgdata = join(dir, "pgdata")
      const before = yield* position(storage)
      yield* Effect.gen(function* () {
        yield* makeCluster(storage, pgdata)
        const server = yield* startServer(storage, pgdata)
        yield* server.sql("CREATE TABLE lost (); CHECKPOINT")
        process.kill(server.pid, "SIGQUIT")
        yield* server.exited
      }).pipe(Effect.scoped)
      const synced = yield* sync(storage, pgdata)
      assert.strictEqual(synced.code, 1)
      assert.strictEqual(synced.stdout, "")
      assert.include(synced.stderr, 'the server was not shut down cleanly, its state is "in production"')
      assert.strictEqual(yield* position(storage), undefined)

      yield* Effect.promise(() => fs.rm(pgdata, { recursive: true }))
      yield* Effect.promise(() => fs.mkdir(pgdata))
      yield* configure(storage, pgdata)
      assert.strictEqual((yield* sync(storage, pgdata)).stdout, `${text(before)}\n`)
      assert.strictEqual(text(yield* position(storage)), text(before))
    }).pipe(Effect.scoped)
  )

  it.live("replication slots are kept for a primary, with the WAL that they need, and left out for standbys", () =>
    Effect.gen(function* () {
      const { dir, storage } = yield* opened
      const pgdata = join(dir, "pgdata")
      yield* Effect.gen(function* () {
        yield* makeCluster(storage, pgdata)
        const server = yield* startServer(storage, pgdata)
        yield* server.sql("CREATE PUBLICATION everything FOR ALL TABLES; CREATE TABLE t (i int)")
        yield* server.sql("SELECT pg_create_logical_replication_slot('mine', 'pgoutput')")
        for (const i of [1, 2]) yield* server.sql(`SELECT pg_switch_wal(); INSERT INTO t VALUES (${i})`)
        yield* server.stop
      }).pipe(Effect.scoped)
      assert.strictEqual((yield* sync(storage, pgdata)).code, 0)
      const primary = yield* archiveNames(storage, true)
      const standby = yield* archiveNames(storage, false)
      const wal = (found: ReadonlyArray<string>) => found.filter((name) => /^pg_wal\/[0-9A-F]{24}$/u.test(name)).length
      assert.includeMembers([...primary], ["pg_replslot/mine/state", "restart.lsn"])
      assert.strictEqual(wal(primary), 3)
      assert.deepStrictEqual(
        standby.filter((name) => name.includes("mine") || name === "restart.lsn"),
        []
      )
      assert.strictEqual(wal(standby), 1)
      const again = join(dir, "again")
      const [changes] = yield* runSql(
        storage,
        again,
        `SELECT count(*) > 0 FROM pg_logical_slot_peek_binary_changes(
           'mine', NULL, NULL, 'proto_version', '1', 'publication_names', 'everything')`
      )
      assert.deepStrictEqual(changes, [["t"]])
    }).pipe(Effect.scoped)
  )

  it.live("directories that are no cleanly stopped cluster of the timeline are refused", () =>
    Effect.gen(function* () {
      const { dir, storage } = yield* opened
      const pgdata = join(dir, "pgdata")
      yield* runSql(storage, pgdata, "CREATE TABLE t ()")
      const why = Effect.map(sync(storage, pgdata), ({ stderr }) => stderr.trim())
      const during = (change: () => Promise<void>, back: () => Promise<void>) =>
        Effect.andThen(Effect.promise(change), Effect.tap(why, Effect.promise(back)))
      const pid = join(pgdata, "postmaster.pid")
      assert.match(
        yield* during(
          () => fs.writeFile(pid, "1\n"),
          () => fs.rm(pid)
        ),
        /postmaster.pid is there, so a server may be running$/u
      )
      const space = join(pgdata, "pg_tblspc/16384")
      assert.match(
        yield* during(
          () => fs.symlink("/tmp", space),
          () => fs.rm(space)
        ),
        /user tablespaces are not supported \(pg_tblspc\/16384\)$/u
      )
      const segment = join(pgdata, "pg_wal/000000010000000000000001")
      assert.match(
        yield* during(
          () => fs.rename(segment, join(dir, "segment")),
          () => fs.rename(join(dir, "segment"), segment)
        ),
        /WAL segment 000000010000000000000001 is missing$/u
      )
      const conf = join(pgdata, "postgresql.conf")
      const settings = yield* Effect.promise(() => fs.readFile(conf, "utf8"))
      assert.match(
        yield* during(
          () => fs.writeFile(conf, "port=1\n"),
          () => fs.writeFile(conf, settings)
        ),
        /postgresql.conf does not name the timeline \(neon.tenant_id, neon.timeline_id\)$/u
      )

      const other = join(dir, "other")
      yield* runSql(storage, other, "CREATE TABLE u (); CREATE TABLE v ()")
      assert.strictEqual((yield* sync(storage, other)).code, 0)
      assert.match(yield* why, /it ends at .*, and the timeline has gone on to .* without it$/u)
    }).pipe(Effect.scoped)
  )

  it.live("a second server on a timeline is refused, a standby is not", () =>
    Effect.gen(function* () {
      const { dir, storage } = yield* opened
      const [first, second] = [join(dir, "first"), join(dir, "second")]
      yield* makeCluster(storage, first)
      yield* makeCluster(storage, second)
      const server = yield* startServer(storage, first)
      const refused = yield* Effect.flip(Effect.timeout(storage.store.starting(second), "5 seconds"))
      assert.match(refused.message, new RegExp(`is served by another Postgres, in ${first}$`, "u"))
      assert.strictEqual((yield* sync(storage, second)).code, 1)
      yield* Effect.promise(() => fs.writeFile(join(second, "standby.signal"), ""))
      yield* storage.store.starting(second)
      yield* server.stop
      assert.strictEqual((yield* sync(storage, first)).code, 0)
    }).pipe(Effect.scoped)
  )

  it.live("the store survives its process; what was half written is discarded", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryDir
      const options = yield* optionsFor(join(dir, "data"))
      const pgdata = join(dir, "pgdata")
      const first = yield* Effect.scoped(
        Effect.gen(function* () {
          const storage = yield* Local.make(options)
          const inUse = yield* Effect.flip(Effect.scoped(Local.make(options)))
          assert.strictEqual(inUse._tag, "InUse")
          yield* runSql(storage, pgdata, "CREATE TABLE t ()")
          yield* sync(storage, pgdata)
          return { storage, lsn: yield* position(storage) }
        })
      )
      const folder = join(options.dataDir, "timelines", first.storage.tenantId, first.storage.timelineId)
      const lock = join(options.dataDir, "timelines/lock")
      const kept = yield* Effect.promise(async () => {
        await assertGone(lock, join(options.dataDir, "run"))
        const found = await fs.readdir(join(folder, "bases"))
        await fs.writeFile(join(folder, "bases/00000000ffffffff.tar.gz.part"), "half")
        await fs.writeFile(join(folder, "bases/00000000ffffffff.tar.gz"), "not in the catalogue")
        await fs.writeFile(join(folder, "catalogue.json.part"), "{")
        await fs.mkdir(join(options.dataDir, "timelines", first.storage.tenantId, "ab".repeat(16)))
        // A process that is gone, and one that has the pid of another.
        await fs.writeFile(lock, `${process.pid} 1\n`)
        return found
      })
      const again = yield* Local.make(options)
      assert.strictEqual(again.tenantId, first.storage.tenantId)
      assert.strictEqual(text(yield* position(again)), text(first.lsn))
      assert.strictEqual((yield* again.store.timelines).length, 1)
      assert.deepStrictEqual(yield* Effect.promise(() => fs.readdir(join(folder, "bases"))), kept)
    }).pipe(Effect.scoped)
  )

  it.live("a store that is opened again beside a running server does not know the position", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryDir
      const options = yield* optionsFor(join(dir, "data"))
      const pgdata = join(dir, "pgdata")
      const scope = yield* Scope.make()
      const before = yield* Scope.provide(Local.make(options), scope)
      yield* makeCluster(before, pgdata)
      const server = yield* startServer(before, pgdata)
      yield* Scope.close(scope, Exit.void)

      const after = yield* Local.make(options)
      assert.strictEqual(yield* position(after), undefined)
      yield* server.stop
      assert.strictEqual((yield* sync(after, pgdata)).code, 0)
      assert.notStrictEqual(yield* position(after), undefined)
    }).pipe(Effect.scoped)
  )

  it.live("two images are kept, and a base backup at the position of the older one is that one", () =>
    Effect.gen(function* () {
      const { dir, storage } = yield* opened
      const pgdata = join(dir, "pgdata")
      const lsns: Array<string> = []
      yield* makeCluster(storage, pgdata)
      for (const name of ["a", "b", "c"]) {
        const server = yield* startServer(storage, pgdata)
        yield* server.sql(`CREATE TABLE ${name} ()`)
        yield* server.stop
        lsns.push((yield* sync(storage, pgdata)).stdout.trim())
      }
      const timeline = yield* storage.store.timeline(storage)
      assert.deepStrictEqual(
        timeline.bases.map(({ lsn }) => Lsn.format(lsn)),
        lsns.slice(1)
      )
      const older = join(dir, "older")
      yield* unpack(storage.store.archive(storage, timeline.bases[0], true), older)
      yield* configure(storage, older)
      const server = yield* startServer(storage, older)
      const [tables] = yield* server.sql("SELECT relname FROM pg_class WHERE relname IN ('a', 'b', 'c') ORDER BY 1")
      assert.deepStrictEqual(tables, [["a"], ["b"]])
    }).pipe(Effect.scoped)
  )
})

const assertGone = async (...paths: ReadonlyArray<string>): Promise<void> => {
  for (const path of paths) {
    const there = await fs.lstat(path).catch(() => undefined)
    assert.strictEqual(there, undefined, `${path} is still there`)
  }
}
