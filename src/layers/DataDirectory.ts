/**
 * PGDATA: made anew at every start, and the files that we write into it.
 *
 * Links are never followed: neither when the old directory is wiped nor when a file is written. A Postgres that an
 * earlier, killed run left running in the directory is brought down first.
 *
 * Source: reference/startup §10, §14.
 */
import { constants } from "node:fs"
import * as fs from "node:fs/promises"
import { basename, dirname, join } from "node:path"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import {
  appendLine,
  confFile,
  externalConnectionsLine,
  keptFiles,
  temporaryOverrideFile
} from "../domain/PostgresConf.ts"
import { killPid } from "./Children.ts"
import { Owner } from "./Owner.ts"
import { Params } from "./Params.ts"
import { isAlive, postmasterOf } from "./processes.ts"

/** A file operation in PGDATA failed; the message names the path and the reason. */
export class DataDirectoryFailed extends Data.TaggedError("DataDirectoryFailed")<{
  readonly path: string
  readonly message: string
  readonly cause?: unknown
}> {}

export class DataDirectory extends Context.Service<
  DataDirectory,
  {
    /** Removes what is there and makes an empty directory, mode 0700. */
    readonly recreate: Effect.Effect<void, DataDirectoryFailed>
    /** Empties the directory for the next try of a base backup; keeps what we wrote before the first. */
    readonly clean: Effect.Effect<void, DataDirectoryFailed>
    readonly writeConf: (text: string) => Effect.Effect<void, DataDirectoryFailed>
    /**
     * Postgres has read postgresql.conf with one of these texts, and since then nobody has written that file, nor left
     * anything in the one with lifted limits.
     */
    readonly isLoaded: (texts: ReadonlyArray<string>) => Effect.Effect<boolean>
    /** Notes what postgresql.conf is; run the effect in it once Postgres has read the file. Until then nothing is loaded. */
    readonly loading: Effect.Effect<Effect.Effect<void>>
    /** What a base backup lacks: the line for external connections, the shared memory link, `neon.signal`. */
    readonly finish: (options: { readonly standby: boolean }) => Effect.Effect<void, DataDirectoryFailed>
  }
>()("compute/layers/DataDirectory") {
  static readonly layer = Layer.effect(
    DataDirectory,
    Effect.suspend(() => make)
  )
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  EEXIST: "it exists and cannot be replaced",
  ENOSPC: "no space left on device",
  EDQUOT: "disk quota exceeded",
  EROFS: "read-only file system",
  ENOTDIR: "a part of the path is not a directory",
  EBUSY: "it is in use, for example as a mount point"
}

/** Error code of a failed system call, if it is one. */
export const errorCode = (cause: unknown): string | undefined =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : undefined

const attempt = <A>(path: string, what: string, run: () => Promise<A>): Effect.Effect<A, DataDirectoryFailed> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) => {
      const code = errorCode(cause)
      return new DataDirectoryFailed({
        path,
        message: `cannot ${what} ${path}: ${(code && reasons[code]) ?? code ?? String(cause)}`,
        cause
      })
    }
  })

/** Fast shutdown of an orphaned postmaster, then immediate, in milliseconds. */
const orphanLadder = [
  ["SIGINT", 20_000],
  ["SIGQUIT", 5_000],
  ["SIGKILL", 2_000]
] as const

/** A file at a moment: any write changes the stamp. */
interface Seen {
  readonly text: string
  readonly stamp: string
}

const see = async (path: string): Promise<Seen | undefined> => {
  try {
    const { ctimeNs, ino } = await fs.lstat(path, { bigint: true })
    return { text: await fs.readFile(path, "utf8"), stamp: `${ino} ${ctimeNs}` }
  } catch {
    return undefined
  }
}

const isEmpty = (path: string): Promise<boolean> =>
  fs.lstat(path).then(
    ({ size }) => size === 0,
    (cause: unknown) => errorCode(cause) === "ENOENT"
  )

const make = Effect.gen(function* () {
  const { pgdata } = yield* Params
  const { user } = yield* Owner
  const conf = join(pgdata, confFile)
  /** What Postgres has read. */
  let loaded: Seen | undefined

  const own = async (path: string): Promise<void> => {
    if (user !== undefined) await fs.lchown(path, user.uid, user.gid)
  }

  /** Writes through no link: an entry of that name that is one is an error. */
  const write = async (path: string, text: string, mode: number): Promise<void> => {
    const { O_CREAT, O_NOFOLLOW, O_TRUNC, O_WRONLY } = constants
    const file = await fs.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode)
    try {
      await file.writeFile(text)
      if (user !== undefined) await file.chown(user.uid, user.gid)
    } finally {
      await file.close()
    }
  }

  const stopOrphan = Effect.gen(function* () {
    const pid = yield* Effect.promise(() => postmasterOf(pgdata))
    if (pid === undefined) return
    yield* Effect.logWarning(`an earlier run left Postgres ${pid} running in ${pgdata}, stopping it`)
    for (const [signal, millis] of orphanLadder) {
      yield* killPid(pid, signal)
      for (let waited = 0; waited < millis; waited += 50) {
        if (!(yield* Effect.promise(() => isAlive(pid)))) return
        yield* Effect.sleep(50)
      }
    }
    return yield* new DataDirectoryFailed({
      path: pgdata,
      message: `Postgres ${pid} of an earlier run is still running in ${pgdata} and cannot be stopped`
    })
  })

  const remove = (path: string) =>
    attempt(path, "remove", () => fs.rm(path, { recursive: true, force: true, maxRetries: 2 }))

  return DataDirectory.of({
    recreate: Effect.gen(function* () {
      yield* stopOrphan
      yield* remove(pgdata)
      const parent = dirname(pgdata)
      yield* attempt(pgdata, "create PGDATA", () => fs.mkdir(pgdata, { mode: 0o700 })).pipe(
        Effect.mapError((error) =>
          errorCode(error.cause) === "ENOENT"
            ? new DataDirectoryFailed({
                path: pgdata,
                message: `cannot create PGDATA ${pgdata}: its parent directory ${parent} does not exist`,
                cause: error.cause
              })
            : error
        )
      )
      yield* attempt(pgdata, "set mode and owner of", async () => {
        await fs.chmod(pgdata, 0o700)
        await own(pgdata)
      })
    }),

    clean: Effect.gen(function* () {
      const names = yield* attempt(pgdata, "list", () => fs.readdir(pgdata))
      yield* Effect.forEach(
        names.filter((name) => !keptFiles.has(name)),
        (name) => remove(join(pgdata, name)),
        { discard: true }
      )
    }),

    writeConf: (text) => attempt(conf, "write", () => write(conf, text, 0o666)),

    isLoaded: (texts) =>
      Effect.promise(async () => {
        if (loaded === undefined || !texts.includes(loaded.text)) return false
        const [now, noLimitIsLifted] = await Promise.all([see(conf), isEmpty(join(pgdata, temporaryOverrideFile))])
        return noLimitIsLifted && now?.stamp === loaded.stamp && now.text === loaded.text
      }),

    loading: Effect.promise(async () => {
      loaded = undefined
      const seen = await see(conf)
      return Effect.sync(() => {
        loaded = seen
      })
    }),

    finish: Effect.fnUntraced(function* ({ standby }) {
      const hba = join(pgdata, "pg_hba.conf")
      const old = yield* attempt(hba, "read", () =>
        fs.readFile(hba, "utf8").catch((cause: unknown) => {
          if (errorCode(cause) === "ENOENT") return ""
          throw cause
        })
      )
      const wanted = appendLine(old, externalConnectionsLine)
      if (wanted === undefined) yield* Effect.logInfo("pg_hba.conf is up-to-date")
      else {
        yield* attempt(hba, "write", () => write(hba, wanted, 0o600))
        yield* Effect.logInfo("updated pg_hba.conf to allow external connections")
      }
      const dynshmem = join(pgdata, "pg_dynshmem")
      yield* attempt(dynshmem, "replace", async () => {
        await fs.rm(dynshmem, { recursive: true })
        await fs.symlink("/dev/shm/", dynshmem)
        await own(dynshmem)
      })
      yield* attempt(join(pgdata, "neon.signal"), "write", async () => {
        const [neon, zenith] = ["neon.signal", "zenith.signal"].map((name) => join(pgdata, name))
        if (neon === undefined || zenith === undefined || (await isFile(neon)) || !(await isFile(zenith))) return
        await write(neon, await fs.readFile(zenith, "utf8"), 0o600)
      })
      if (standby) {
        const signal = join(pgdata, "standby.signal")
        const existed = yield* Effect.promise(() => isFile(signal))
        if (existed) yield* Effect.logInfo("reused pre-existing standby.signal")
        else {
          yield* attempt(signal, "write", () => write(signal, "", 0o600))
          yield* Effect.logInfo(`created ${basename(signal)}`)
        }
      }
    })
  })
})

const isFile = (path: string): Promise<boolean> =>
  fs.lstat(path).then(
    (stat) => stat.isFile(),
    () => false
  )
