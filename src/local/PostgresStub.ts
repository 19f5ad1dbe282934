/**
 * The program in place of `postgres`: a small shell script that replaces itself by the real binary, and in front of that
 * tells the store when a postmaster starts, and lets it publish the data directory for `--sync-safekeepers`.
 *
 * It talks to the store through named pipes in a spool directory that belongs to the user who runs Postgres; what comes
 * from there is not trusted. When the store is gone it fails at once; SIGTERM ends it.
 * Source: reference/storage-protocols §3.5, §8.5.
 */
import { execFile } from "node:child_process"
import * as nodeFs from "node:fs"
import * as fs from "node:fs/promises"
import { Socket } from "node:net"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Schedule from "effect/Schedule"
import { describeLine } from "../domain/describe.ts"
import * as Lsn from "../domain/Lsn.ts"
import { errorCode } from "../layers/DataDirectory.ts"
import type { User } from "../layers/Owner.ts"
import { obstacle } from "./access.ts"
import { type FaultBook, makeFaultBook, type StubFault } from "./Faults.ts"
import { type Journal, makeRecorder } from "./Journal.ts"
import type { PostgresInstall } from "./PostgresInstall.ts"
import type { Store } from "./Store.ts"
import { pgConfigScript, postgresScript } from "./stubScript.ts"

/** The stub cannot be set up. */
export class StubFailed extends Data.TaggedError("StubFailed")<{
  readonly path: string
  readonly message: string
  readonly cause?: unknown
}> {}

/** One run of the stub that asked the store. */
export interface StubRun {
  readonly kind: "start" | "sync"
  readonly pgdata: string
  readonly pid: number
  /** Milliseconds since the Unix epoch. */
  readonly startedAt: number
  /** What it printed; undefined while it waits. */
  stdout: string | undefined
  stderr: string | undefined
  code: number | undefined
}

export interface PostgresStub {
  /** Folder with `postgres`, `initdb`, `pg_ctl`, `pg_config`. */
  readonly bindir: string
  /** For `--pgbin`. */
  readonly postgres: string
  readonly runs: Journal<StubRun>
  readonly faults: FaultBook<StubFault>
}

export interface Options {
  readonly store: Store
  readonly install: PostgresInstall
  /** Who runs Postgres; undefined: this process' own user. */
  readonly user: User | undefined
  /** Made anew, and removed with the Scope. The user must be able to reach it. */
  readonly directory: string
}

interface Answer {
  readonly stdout?: string
  readonly stderr?: string
  readonly code: number
}

/** How long the stub's end of the answer pipe is waited for. */
const answerLimit = "5 seconds"
const longestRequest = 8192

/** How long stubs that were answered have, at the end, to read what they were told. */
const readLimit = "1 second"

/** Every stub removes its answer when it has read it. */
const answersRead = (spool: string): Effect.Effect<void> =>
  Effect.promise(() => fs.readdir(spool).catch(() => [])).pipe(
    Effect.repeat({
      schedule: Schedule.spaced("5 millis"),
      while: (names) => names.some((name) => name.startsWith("reply."))
    }),
    Effect.timeoutOrElse({ duration: readLimit, orElse: () => Effect.void }),
    Effect.asVoid
  )

const setUp = (options: Options, spool: string, bindir: string) =>
  Effect.tryPromise({
    try: async () => {
      const { install, user } = options
      await fs.rm(options.directory, { recursive: true, force: true })
      await fs.mkdir(bindir, { recursive: true, mode: 0o755 })
      await fs.mkdir(spool, { mode: 0o700 })
      const requests = join(spool, "requests")
      await promisify(execFile)("mkfifo", ["-m", "600", requests])
      if (user !== undefined) {
        await fs.chown(requests, user.uid, user.gid)
        await fs.chown(spool, user.uid, user.gid)
      }
      const real = join(install.bindir, "postgres")
      const script = postgresScript({ real, spool, storePid: process.pid })
      await fs.writeFile(join(bindir, "postgres"), script, { mode: 0o755 })
      const siblings = (await fs.readdir(install.bindir)).filter((name) => name !== "postgres")
      for (const name of siblings) await fs.symlink(join(install.bindir, name), join(bindir, name))
      if (!siblings.includes("pg_config")) {
        const text = pgConfigScript(dirname(install.bindir), install.version)
        await fs.writeFile(join(bindir, "pg_config"), text, { mode: 0o755 })
      }
      const blocked = await obstacle(join(bindir, "postgres"), user, "readAndExecute")
      if (blocked !== undefined) throw new Error(`user ${user?.name ?? "of this process"} cannot get past ${blocked}`)
      return promisify(nodeFs.open)(requests, nodeFs.constants.O_RDWR | nodeFs.constants.O_NONBLOCK)
    },
    catch: (cause) =>
      new StubFailed({
        path: options.directory,
        message: `the stand-in for postgres cannot be set up in ${options.directory}: ${describeLine(cause)}`,
        cause
      })
  })

/** Writes an answer into the pipe of a stub that waits for it. What lies there must be a pipe, and no link to one. */
const answerTo = (spool: string, pid: number, answer: Answer) => {
  const lines = (text: string | undefined, mark: string) =>
    text === undefined ? [] : text.split("\n").map((line) => `${mark}${line}\n`)
  const content = [...lines(answer.stdout, "1"), ...lines(answer.stderr, "2"), `x${answer.code}\n`].join("")
  const write = async (): Promise<void> => {
    const { O_WRONLY, O_NONBLOCK, O_NOFOLLOW } = nodeFs.constants
    const pipe = await fs.open(join(spool, `reply.${pid}`), O_WRONLY | O_NONBLOCK | O_NOFOLLOW)
    try {
      if (!(await pipe.stat()).isFIFO()) return
      await pipe.writeFile(content)
    } finally {
      await pipe.close()
    }
  }
  return Effect.tryPromise({ try: write, catch: (cause) => cause }).pipe(
    // Until the stub has its end open, there is nobody to write to.
    Effect.retry({ schedule: Schedule.spaced("5 millis"), while: (cause) => errorCode(cause) === "ENXIO" }),
    Effect.timeoutOrElse({ duration: answerLimit, orElse: () => Effect.void }),
    Effect.ignore
  )
}

const parseRequest = (line: string): { kind: "start" | "sync"; pid: number; pgdata: string } | undefined => {
  const [kind, pid = "", pgdata = ""] = line.split("\t")
  if ((kind !== "start" && kind !== "sync") || !/^[0-9]{1,10}$/u.test(pid) || !pgdata.startsWith("/")) return undefined
  return { kind, pid: Number(pid), pgdata }
}

export const make = Effect.fnUntraced(function* (options: Options) {
  const { store } = options
  const bindir = join(options.directory, "bin")
  const spool = join(options.directory, "spool")
  const faults = makeFaultBook<StubFault>()
  const runs = makeRecorder<StubRun>()

  yield* Effect.addFinalizer(() =>
    Effect.andThen(
      answersRead(spool),
      Effect.promise(() => fs.rm(options.directory, { recursive: true, force: true }).catch(() => {}))
    )
  )
  const requests = yield* setUp(options, spool, bindir)

  const regular = Effect.fnUntraced(function* (run: StubRun) {
    if (run.kind === "start") {
      yield* store.starting(run.pgdata)
      return { code: 0 }
    }
    return { stdout: Lsn.format(yield* store.sync(run.pgdata)), code: 0 }
  })

  const respond = Effect.fnUntraced(function* (run: StubRun) {
    let complaint: string | undefined
    for (const { plan, released } of faults.take(run.kind, run.pgdata)) {
      switch (plan.do) {
        case "delay":
          yield* Effect.sleep(plan.millis)
          break
        case "hang":
          yield* Deferred.await(released)
          break
        case "complain":
          complaint = plan.text
          break
        case "fail":
          return { stderr: plan.message, code: plan.code ?? 1 }
        case "print":
          return { stdout: plan.text, code: 0 }
      }
    }
    const answer: Answer = yield* regular(run).pipe(
      Effect.catch((error) => Effect.succeed({ stderr: `local storage: ${describeLine(error)}`, code: 1 })),
      Effect.catchDefect((defect) => Effect.succeed({ stderr: `local storage: ${describeLine(defect)}`, code: 1 }))
    )
    return complaint === undefined ? answer : { ...answer, stderr: complaint }
  })

  const serve = Effect.fnUntraced(function* (line: string) {
    const request = parseRequest(line)
    if (request === undefined) return yield* Effect.logWarning("the spool of the local storage got a malformed request")
    const run: StubRun = {
      ...request,
      startedAt: yield* Clock.currentTimeMillis,
      stdout: undefined,
      stderr: undefined,
      code: undefined
    }
    runs.add(run)
    const finish = (answer: Answer) =>
      Effect.suspend(() => {
        run.stdout = answer.stdout
        run.stderr = answer.stderr
        run.code = answer.code
        runs.touch()
        return answerTo(spool, run.pid, answer)
      })
    yield* respond(run).pipe(
      Effect.flatMap(finish),
      Effect.onInterrupt(() => finish({ stderr: "local storage: it was stopped", code: 1 }))
    )
  })

  const fork = yield* FiberSet.makeRuntime<never>()
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      const socket = new Socket({ fd: requests, readable: true, writable: false })
      let rest = ""
      socket.setEncoding("utf8")
      socket.on("data", (chunk) => {
        const lines = (rest + chunk).split("\n")
        rest = (lines.pop() ?? "").slice(0, longestRequest)
        for (const line of lines) fork(serve(line))
      })
      socket.on("error", () => {})
      return socket
    }),
    (socket) =>
      Effect.callback<void>((resume) => {
        socket.once("close", () => resume(Effect.void))
        socket.destroy()
      })
  )
  const stub: PostgresStub = { bindir, postgres: join(bindir, "postgres"), runs, faults }
  return stub
})
