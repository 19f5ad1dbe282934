import { spawnSync } from "node:child_process"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Lsn from "../../src/domain/Lsn.ts"
import * as Local from "../../src/local/LocalStorage.ts"
import { LocalStorage } from "../../src/local/LocalStorage.ts"
import * as Store from "../../src/local/Store.ts"
import { postgresScript } from "../../src/local/stubScript.ts"
import {
  configure,
  makeCluster,
  optionsFor,
  run,
  start,
  startServer,
  sync,
  TestStorage,
  temporaryDir,
  user
} from "./fixture.ts"

/** A data directory as it is before the base backup: configuration alone. */
const emptyPgdata = Effect.gen(function* () {
  const pgdata = join(yield* temporaryDir, "pgdata")
  yield* Effect.promise(() => fs.mkdir(pgdata))
  yield* configure(yield* LocalStorage, pgdata)
  return pgdata
})

const exists = (path: string) =>
  Effect.promise(() =>
    fs.lstat(path).then(
      () => true,
      () => false
    )
  )

/** Processes whose command line contains a text. */
const processesWith = async (text: string): Promise<ReadonlyArray<string>> => {
  const pids = (await fs.readdir("/proc")).filter((name) => /^\d+$/u.test(name))
  const lines = await Promise.all(pids.map((pid) => fs.readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")))
  return lines.filter((line) => line.includes(text))
}

layer(TestStorage, { excludeTestServices: true, timeout: "60 seconds" })("PostgresStub", (it) => {
  it.effect("anything but --sync-safekeepers is the real program, under its own path and the same pid", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const version = yield* run(storage.stub.postgres, ["-V"])
      assert.deepInclude(version, { code: 0, stderr: "" })
      assert.match(version.stdout, /^postgres \(PostgreSQL\) 17\./u)
      const wrong = yield* run(storage.stub.postgres, ["--sync-safekeepers", "more"])
      assert.notStrictEqual(wrong.code, 0)
      assert.strictEqual((yield* run(join(storage.stub.bindir, "initdb"), ["-V"])).code, 0)
      const config = yield* run(join(storage.stub.bindir, "pg_config"), ["--version"])
      assert.strictEqual(config.stdout, `PostgreSQL ${storage.install.version}\n`)

      const pgdata = join(yield* temporaryDir, "pgdata")
      yield* makeCluster(storage, pgdata)
      const server = yield* startServer(storage, pgdata)
      const owner = yield* user
      const process = yield* Effect.promise(async () => ({
        program: await fs.readlink(`/proc/${server.pid}/exe`),
        uid: (await fs.stat(`/proc/${server.pid}`)).uid,
        children: await processesWith(storage.stub.bindir)
      }))
      assert.strictEqual(process.program, join(storage.install.bindir, "postgres"))
      assert.strictEqual(process.uid, owner?.uid ?? process.uid)
      assert.deepStrictEqual(process.children, [])
      const [first] = yield* server.sql("SHOW data_directory")
      assert.deepStrictEqual(first, [[pgdata]])
      yield* server.stop
      assert.strictEqual((yield* sync(storage, pgdata)).code, 0)
    }).pipe(Effect.scoped)
  )

  it.effect("a read of one setting is no start of a server", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const pgdata = join(yield* temporaryDir, "pgdata")
      yield* makeCluster(storage, pgdata)
      const ran = yield* run(storage.stub.postgres, ["-D", pgdata, "-C", "port"])
      assert.strictEqual(ran.stdout, "5432\n")
      assert.notStrictEqual(Store.position(yield* storage.store.timeline(storage)), undefined)
    }).pipe(Effect.scoped)
  )

  it.effect("before the first base backup the sync returns the position of the storage", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const { lsn } = Store.newest(yield* storage.store.timeline(storage))
      const ran = yield* sync(storage, yield* emptyPgdata)
      assert.deepStrictEqual(ran, { code: 0, signal: null, stdout: `${Lsn.format(lsn)}\n`, stderr: "" })
    }).pipe(Effect.scoped)
  )

  it.effect("faults: runs that fail, print something else, or complain", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const { faults } = storage.stub
      const pgdata = yield* emptyPgdata
      faults.add({ at: "sync", do: "fail", message: "no quorum\nnot yet", code: 3, times: 2 })
      faults.add({ at: "sync", do: "print", text: "0/0" })
      faults.add({ at: "sync", do: "complain", text: "LOG:  something" })
      const failed = { code: 3, signal: null, stdout: "", stderr: "no quorum\nnot yet\n" }
      assert.deepStrictEqual(yield* sync(storage, pgdata), failed)
      assert.deepStrictEqual(yield* sync(storage, pgdata), failed)
      assert.deepInclude(yield* sync(storage, pgdata), { code: 0, stdout: "0/0\n" })
      const noisy = yield* sync(storage, pgdata)
      assert.deepInclude(noisy, { code: 0, stderr: "LOG:  something\n" })
      assert.deepInclude(storage.stub.runs.all().at(-1), { kind: "sync", pgdata, code: 0 })
    }).pipe(Effect.scoped)
  )

  it.effect("SIGTERM ends a sync that waits, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const hang = storage.stub.faults.add({ at: "sync", do: "hang" })
      const pgdata = yield* emptyPgdata
      const waiting = yield* start(storage.stub.postgres, ["--sync-safekeepers"], { PGDATA: pgdata })
      yield* storage.stub.runs.until(({ pid }) => pid === waiting.pid)
      process.kill(waiting.pid, "SIGTERM")
      const ended = yield* Effect.timeout(waiting.exited, "2 seconds")
      assert.strictEqual(ended.code, 143)
      const spool = join(storage.stub.bindir, "../spool")
      assert.deepStrictEqual(yield* Effect.promise(() => processesWith(spool)), [])
      assert.deepStrictEqual(yield* Effect.promise(() => fs.readdir(spool)), ["requests"])
      hang.release()
    }).pipe(Effect.scoped)
  )

  it.effect("what a user puts into the spool is not trusted", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const spool = join(storage.stub.bindir, "../spool")
      const victim = join(yield* temporaryDir, "victim")
      yield* Effect.promise(async () => {
        await fs.writeFile(victim, "untouched")
        await fs.symlink(victim, join(spool, "reply.4000001"))
        await fs.writeFile(join(spool, "reply.4000002"), "a file")
        await fs.appendFile(
          join(spool, "requests"),
          "sync\t4000001\t/x\nsync\t4000002\t/x\nsync\t../../x\t/x\nnonsense\n\n"
        )
      })
      yield* storage.stub.runs.until(({ pid, code }) => pid === 4000002 && code !== undefined)
      assert.strictEqual((yield* sync(storage, yield* emptyPgdata)).code, 0)
      assert.strictEqual(yield* Effect.promise(() => fs.readFile(victim, "utf8")), "untouched")
      assert.strictEqual(yield* Effect.promise(() => fs.readFile(join(spool, "reply.4000002"), "utf8")), "a file")
      yield* Effect.promise(() => Promise.all([1, 2].map((n) => fs.rm(join(spool, `reply.400000${n}`)))))
    }).pipe(Effect.scoped)
  )
})

describe("PostgresStub", () => {
  it.live("without the storage it fails at once, for a sync and for a start", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryDir
      const owner = yield* user
      const gone = spawnSync("true").pid
      const stub = join(dir, "postgres")
      const pipe = join(dir, "requests")
      spawnSync("mkfifo", [pipe])
      yield* Effect.promise(async () => {
        if (owner !== undefined) await fs.chown(dir, owner.uid, owner.gid)
        await fs.writeFile(stub, postgresScript({ real: "/bin/echo", spool: dir, storePid: gone }), { mode: 0o755 })
      })
      const refused = { code: 1, signal: null, stdout: "", stderr: "local storage: it is not running\n" }
      assert.deepStrictEqual(yield* run(stub, ["--sync-safekeepers"], { PGDATA: dir }), refused)
      assert.deepStrictEqual(yield* run(stub, ["-D", dir]), refused)
      yield* Effect.promise(() => fs.rm(pipe))
      assert.deepStrictEqual(yield* run(stub, ["--sync-safekeepers"], { PGDATA: dir }), refused)
      assert.strictEqual((yield* run(stub, ["-V"])).stdout, "-V\n")
    }).pipe(Effect.scoped)
  )

  it.live("a storage that stops answers those who wait, and leaves neither port, pipe, lock nor file", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryDir
      const options = yield* optionsFor(join(dir, "data"))
      const scope = yield* Scope.make()
      const storage = yield* Scope.provide(Local.make(options), scope)
      const pgdata = join(dir, "pgdata")
      yield* Effect.promise(() => fs.mkdir(pgdata))
      yield* configure(storage, pgdata)
      storage.stub.faults.add({ at: "sync", do: "hang" })
      const waiting = yield* start(storage.stub.postgres, ["--sync-safekeepers"], { PGDATA: pgdata })
      yield* storage.stub.runs.until(() => true)
      yield* Scope.close(scope, Exit.void)
      assert.deepInclude(yield* Effect.timeout(waiting.exited, "2 seconds"), {
        code: 1,
        stderr: "local storage: it was stopped\n"
      })
      assert.isFalse(yield* exists(join(options.dataDir, "run")))
      assert.isFalse(yield* exists(join(options.dataDir, "timelines/lock")))
      const left = yield* Effect.promise(() => fs.readdir(options.dataDir))
      assert.deepStrictEqual(left.sort(), ["identity.json", "keys", "timelines"])
    }).pipe(Effect.scoped)
  )
})
