/** A storage of its own for a test file, and clusters of real Postgres on it. */
import { execFile, spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { localAdmin } from "../../src/domain/ConnString.ts"
import * as Owner from "../../src/layers/Owner.ts"
import * as PgWire from "../../src/layers/PgWire.ts"
import { LocalStorage, type Options } from "../../src/local/LocalStorage.ts"

/** Shared by all test files and runs, so that initdb runs once. */
export const cacheDir = join(tmpdir(), `compute-ctl-test-cache-${process.getuid?.()}`)

/** A directory that everybody can pass through; removed at the end. */
export const temporaryDir = Effect.acquireRelease(
  Effect.promise(async () => {
    const path = await fs.mkdtemp(join(tmpdir(), "compute-local-"))
    await fs.chmod(path, 0o755)
    return path
  }),
  (path) => Effect.promise(() => fs.rm(path, { recursive: true, force: true }))
)

export const user = Owner.resolve(undefined)

/** Options for a storage in a directory. */
export const optionsFor = (dataDir: string): Effect.Effect<Options, Owner.NoSuchUser> =>
  Effect.map(user, (found) => ({ dataDir, user: found, cacheDir, waitLimit: "300 millis" }))

/** A storage in a directory of its own. */
export const TestStorage = Layer.unwrap(
  Effect.gen(function* () {
    return LocalStorage.layer(yield* optionsFor(yield* temporaryDir))
  })
)

const freePort = Effect.callback<number>((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(address !== null && typeof address === "object" ? address.port : 0)))
  })
})

export interface Ran {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly pid: number
  readonly exited: Effect.Effect<Ran>
}

/** Starts a program as the user who runs Postgres; killed at the end. */
export const start = (program: string, args: ReadonlyArray<string>, env: Record<string, string> = {}) =>
  Effect.gen(function* () {
    const owner = yield* user
    const exited = yield* Deferred.make<Ran>()
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const made = spawn(program, args, {
          cwd: "/",
          env: { PATH: "/usr/bin:/bin", ...env },
          stdio: ["ignore", "pipe", "pipe"],
          ...(owner === undefined ? {} : { uid: owner.uid, gid: owner.gid })
        })
        const ran = { stdout: "", stderr: "" }
        made.stdout.on("data", (chunk) => {
          ran.stdout += String(chunk)
        })
        made.stderr.on("data", (chunk) => {
          ran.stderr += String(chunk)
        })
        made.on("close", (code, signal) => Deferred.doneUnsafe(exited, Exit.succeed({ ...ran, code, signal })))
        return made
      }),
      (made) =>
        Effect.andThen(
          Effect.sync(() => made.kill("SIGKILL")),
          Deferred.await(exited)
        )
    )
    const running: Running = { pid: child.pid ?? 0, exited: Deferred.await(exited) }
    return running
  })

export const run = (program: string, args: ReadonlyArray<string>, env: Record<string, string> = {}) =>
  Effect.scoped(Effect.flatMap(start(program, args, env), ({ exited }) => exited))

/** A data directory made of an archive by the programs of the system, as the user who runs Postgres. */
export const unpack = (archive: string, pgdata: string) =>
  Effect.gen(function* () {
    const owner = yield* user
    yield* Effect.promise(async () => {
      await fs.mkdir(pgdata, { mode: 0o700 })
      const tar = `gzip -dc '${archive}' | tar -x --no-same-owner -C '${pgdata}'`
      await promisify(execFile)("sh", ["-c", tar])
      if (owner !== undefined) await promisify(execFile)("chown", ["-R", `${owner.uid}:${owner.gid}`, pgdata])
    })
  })

/** The newest image, unpacked and configured. */
export const makeCluster = (storage: LocalStorage["Service"], pgdata: string, settings = "") =>
  Effect.gen(function* () {
    const timeline = yield* storage.store.timeline(storage)
    const base = timeline.bases.at(-1) ?? timeline.bases[0]
    yield* unpack(storage.store.archive(storage, base, true), pgdata)
    yield* configure(storage, pgdata, settings)
  })

/** Writes the postgresql.conf of a compute on the storage. */
export const configure = (storage: LocalStorage["Service"], pgdata: string, settings = "") =>
  Effect.promise(() =>
    fs.writeFile(
      join(pgdata, "postgresql.conf"),
      `neon.tenant_id='${storage.tenantId}'\nneon.timeline_id='${storage.timelineId}'\nfsync=off\n` +
        `listen_addresses='127.0.0.1'\nunix_socket_directories=''\nwal_level=logical\nshared_buffers=8MB\n${settings}`
    )
  )

const stopServer = (pid: number): Effect.Effect<void> => Effect.sync(() => void process.kill(pid, "SIGINT"))

/** A server on a data directory, started through the stub; SQL as superuser. */
export const startServer = (storage: LocalStorage["Service"], pgdata: string) =>
  Effect.gen(function* () {
    const port = yield* freePort
    const server = yield* start(storage.stub.postgres, ["-D", pgdata, "-p", String(port)])
    const connect = PgWire.connect({
      target: localAdmin(port)
    })
    const sql = (text: string) =>
      Effect.scoped(Effect.flatMap(connect, (session) => session.query(text))).pipe(
        Effect.map((sets) => sets.map(({ rows }) => rows))
      )
    yield* sql("SELECT 1").pipe(Effect.retry(Schedule.max([Schedule.spaced("20 millis"), Schedule.recurs(500)])))
    return { ...server, port, sql, stop: Effect.andThen(stopServer(server.pid), server.exited) }
  })

/** What `postgres --sync-safekeepers` answers for a data directory. */
export const sync = (storage: LocalStorage["Service"], pgdata: string) =>
  run(storage.stub.postgres, ["--sync-safekeepers"], { PGDATA: pgdata })
