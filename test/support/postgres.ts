/**
 * A real PostgreSQL that a test starts, stops and spoils, with a stand-in for the extension `neon` where it wants one.
 *
 * `COMPUTE_CTL_TEST_PG` chooses the version (default: the one that comes with the program), `COMPUTE_CTL_TEST_RUNS`
 * multiplies the number of runs of properties. The extensions go into a tree of links around the binaries, because the
 * package itself must not be changed.
 */

import { type ChildProcess, execFile, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { PostgresTarget } from "../../src/domain/ConnString.ts"
import { majors } from "../../src/domain/PostgresVersion.ts"
import { errorCode } from "../../src/layers/DataDirectory.ts"
import * as Owner from "../../src/layers/Owner.ts"
import * as PgWire from "../../src/layers/PgWire.ts"
import * as PostgresInstall from "../../src/local/PostgresInstall.ts"
import { standIns } from "./extensions.ts"

const { COMPUTE_CTL_TEST_PG: version, COMPUTE_CTL_TEST_RUNS: factor } = process.env

/** The version under test. */
export const major = majors.find((known) => String(known) === version) ?? PostgresInstall.bundledMajor

/** As one part of all tests; what takes long is left to the matrix. */
export const isQuick = factor === undefined

/** How often a property is tried. */
export const runs = (usual: number): number => Math.max(1, Math.round(usual * Number(factor ?? 1)))

/** Binaries and templates, shared by all tests and files. */
export const cacheDir = join(tmpdir(), `compute-ctl-tests-${process.getuid?.() ?? 0}`)

const run = promisify(execFile)

const env = { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8", TZ: "UTC" }

const asUser = (user: Owner.User | undefined) => (user === undefined ? {} : { uid: user.uid, gid: user.gid })

const give = async (path: string, user: Owner.User | undefined) => {
  if (user !== undefined) await fs.chown(path, user.uid, user.gid)
}

/** Makes a directory of the cache, once. */
const once = async (name: string, make: (part: string) => Promise<unknown>): Promise<string> => {
  const target = join(cacheDir, name)
  if (await fs.stat(target).catch(() => undefined)) return target
  await fs.mkdir(cacheDir, { recursive: true, mode: 0o755 })
  const part = await fs.mkdtemp(`${target}.part-`)
  await make(part)
  await fs.rename(part, target).catch((cause) => {
    // Another test file was faster: its result is as good.
    if (!["ENOTEMPTY", "EEXIST"].includes(errorCode(cause) ?? "")) throw cause
    return fs.rm(part, { recursive: true })
  })
  return target
}

const linkAll = async (from: string, to: string) => {
  await fs.mkdir(to, { recursive: true })
  for (const name of await fs.readdir(from)) await fs.symlink(join(from, name), join(to, name))
}

/** Binaries with the stand-ins beside them; Postgres finds its files from its own path. */
const withStandIns = async ({ bindir, version }: PostgresInstall.PostgresInstall): Promise<string> => {
  const root = dirname(bindir)
  const identity = createHash("sha256").update(JSON.stringify([bindir, standIns]))
  const made = await once(`neon-${version}-${identity.digest("hex").slice(0, 8)}`, async (part) => {
    const share = join(part, "share/postgresql")
    await fs.chmod(part, 0o755)
    await fs.mkdir(join(part, "bin"))
    for (const name of ["postgres", "initdb", "pg_ctl"]) {
      await fs.copyFile(join(bindir, name), join(part, "bin", name), fs.constants.COPYFILE_FICLONE)
    }
    await fs.symlink(join(root, "lib"), join(part, "lib"))
    await linkAll(join(root, "share/postgresql"), share)
    await fs.rm(join(share, "extension"))
    await linkAll(join(root, "share/postgresql/extension"), join(share, "extension"))
    for (const [name, text] of standIns) await fs.writeFile(join(share, "extension", name), text)
  })
  return join(made, "bin")
}

/** A directory that everybody can pass through; removed at the end. */
export const temporary = (user: Owner.User | undefined) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const path = await fs.mkdtemp(join(tmpdir(), "compute-catalog-"))
      await fs.chmod(path, 0o755)
      await give(path, user)
      return path
    }),
    (path) => Effect.promise(() => fs.rm(path, { recursive: true, force: true, maxRetries: 3 }))
  )

/** What initdb makes, once for each version and then copied. */
const initialized = ({ bindir, version }: PostgresInstall.PostgresInstall, user: Owner.User | undefined) =>
  once(`catalog-${version}`, async (part) => {
    await fs.chmod(part, 0o700)
    await give(part, user)
    const provider = major >= 17 ? ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] : []
    await run(
      join(bindir, "initdb"),
      [
        ...["-D", part, "--username=cloud_admin", "--encoding=UTF8", "--locale=C.UTF-8", ...provider],
        ...["--auth=trust", "--no-sync", "--no-instructions"]
      ],
      { cwd: "/", env, ...asUser(user) }
    )
  })

const copyAs = (from: string, to: string, user: Owner.User | undefined) =>
  run("/bin/cp", ["-R", "--reflink=auto", from, to], { cwd: "/", ...asUser(user) })

/** The binaries under test. */
export const findInstall = Effect.gen(function* () {
  const user = yield* Owner.resolve(undefined)
  const install = yield* PostgresInstall.find({ major, user, cacheDir })
  return { user, install }
})

/** Directory of the same with the stand-ins for extensions. */
export const bindirWithNeon = Effect.flatMap(findInstall, ({ install }) => Effect.promise(() => withStandIns(install)))

export interface ClusterOptions {
  readonly neon: boolean
  /** More lines of postgresql.conf. */
  readonly conf?: string
  /** Stopped cluster to begin with a copy of; default: a new one. */
  readonly from?: string
  /** Existing directory to make the data directory in; default: a temporary one. */
  readonly volume?: string
}

export type Rows = ReadonlyArray<ReadonlyArray<string | null>>

const hasExited = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

const exitOf = (child: ChildProcess) =>
  hasExited(child)
    ? Effect.void
    : Effect.callback<void>((resume) => {
        child.once("exit", () => resume(Effect.void))
      })

/** A cluster on a unix socket; the Scope ends it. */
export const makeCluster = Effect.fnUntraced(function* (options: ClusterOptions) {
  const { install, user } = yield* findInstall
  const directory = yield* temporary(user)
  const bindir = options.neon ? yield* bindirWithNeon : install.bindir
  const pgdata = join(options.volume ?? directory, "data")
  yield* Effect.promise(async () => {
    await copyAs(options.from ?? (await initialized(install, user)), pgdata, user)
    const conf = [
      "listen_addresses = ''",
      `unix_socket_directories = '${directory}'`,
      "fsync = off",
      "wal_level = logical",
      "max_connections = 40",
      "max_prepared_transactions = 2",
      "wal_retrieve_retry_interval = 200ms",
      "shared_buffers = 16MB",
      "include_if_exists = 'compute_ctl_temp_override.conf'",
      options.conf ?? ""
    ]
    await fs.appendFile(join(pgdata, "postgresql.conf"), `${conf.join("\n")}\n`)
  })
  const target: PostgresTarget = {
    host: directory,
    port: 5432,
    user: "cloud_admin",
    database: "postgres",
    password: undefined,
    options: undefined
  }
  const connect = (database = "postgres", as = "cloud_admin") =>
    PgWire.connect({ target: { ...target, database, user: as } })

  let postmaster: ChildProcess | undefined
  const ended = Effect.suspend(() => (postmaster === undefined ? Effect.void : exitOf(postmaster)))
  const kill = (signal: NodeJS.Signals) =>
    Effect.suspend(() => {
      postmaster?.kill(signal)
      return ended
    })
  const launch = Effect.gen(function* () {
    const log = yield* Effect.promise(() => fs.open(join(directory, "log"), "a"))
    postmaster = spawn(join(bindir, "postgres"), ["-D", pgdata], {
      cwd: "/",
      env,
      stdio: ["ignore", log.fd, log.fd],
      ...asUser(user)
    })
    yield* Effect.promise(() => log.close())
  })
  /** A server whose predecessor was killed does not start before the last child of that one has gone. */
  const start = Effect.gen(function* () {
    while (true) {
      if (postmaster === undefined || hasExited(postmaster)) yield* launch
      if (Result.isSuccess(yield* Effect.result(Effect.scoped(connect())))) return
      yield* Effect.sleep("20 millis")
    }
  }).pipe(Effect.timeout("30 seconds"))
  yield* Effect.acquireRelease(start, () => kill("SIGQUIT"))

  /** A message in a session of its own; the answers to its statements. */
  const query = (text: string, database?: string, as?: string) =>
    Effect.scoped(Effect.flatMap(connect(database, as), (session) => session.query(text)))
  /** Rows of the last statement. */
  const sql = (text: string, database?: string, as?: string) =>
    Effect.map(query(text, database, as), (sets): Rows => sets.at(-1)?.rows ?? [])
  return {
    directory,
    pgdata,
    user,
    target,
    pid: () => postmaster?.pid ?? 0,
    /** What the server has logged. */
    log: Effect.promise(() => fs.readFile(join(directory, "log"), "utf8")),
    /** A session that stays open until the Scope ends. */
    connect,
    query,
    sql,
    /** First value of each row. */
    column: (text: string, database?: string, as?: string) =>
      Effect.map(sql(text, database, as), (rows) => rows.map(([value]) => value ?? null)),
    start,
    /** SIGINT: a clean stop. SIGQUIT: a crash of its own. SIGKILL: one that nobody cleans up after. */
    kill,
    restart: Effect.andThen(kill("SIGINT"), start)
  }
})

export type Cluster = Effect.Success<ReturnType<typeof makeCluster>>
