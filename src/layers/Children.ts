/**
 * Child processes that we own: the postmaster, `postgres --sync-safekeepers`, `pg_dump`.
 *
 * Spawned by hand and not by `effect/process`, because the stop ladder, uid and gid, and the log pipe are ours. Every
 * descendant inherits file descriptor 3; its end tells without polling that the last of them is gone.
 */
import * as ChildProcess from "node:child_process"
import type { Readable } from "node:stream"
import { StringDecoder } from "node:string_decoder"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { User } from "./Owner.ts"
import { processesIn } from "./processes.ts"

/** How a process ended: exactly one of the two is set. */
export interface Exited {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export class SpawnFailed extends Data.TaggedError("SpawnFailed")<{
  readonly program: string
  readonly message: string
  readonly cause?: unknown
}> {}

/** Descendants of a child that survived it and could not be killed. */
export class StillAlive extends Data.TaggedError("StillAlive")<{ readonly message: string }> {}

export interface Child {
  readonly pid: number
  /** The process itself has ended. */
  readonly exited: Effect.Effect<Exited>
  /** The process and all its descendants have ended. */
  readonly gone: Effect.Effect<void>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

export interface SpawnOptions {
  readonly program: string
  readonly args: ReadonlyArray<string>
  readonly env: Readonly<Record<string, string | undefined>>
  readonly user: User | undefined
  /** Whole lines of stderr, without their ends. Called synchronously, must not block. */
  readonly onLine: (line: string) => void
  /** Gets the output of the process, where it is data; without it the process writes to our own stdout. */
  readonly onStdout?: (source: Readable) => void
}

/** Signals in the order in which they are tried, each with the time it is given. */
export type Ladder = ReadonlyArray<readonly [NodeJS.Signals, Duration.Input]>

/** Environment of a child that runs as another user. */
const environment = (options: SpawnOptions): NodeJS.ProcessEnv => ({
  ...options.env,
  ...(options.user === undefined
    ? {}
    : { HOME: options.user.home, USER: options.user.name, LOGNAME: options.user.name })
})

const maxLine = 64 * 1024

/** Splits a stream into lines. Bad bytes are replaced, a longer line is cut, the stream is read to its end. */
export const readLines = (source: Readable, onLine: (line: string) => void): void => {
  const decoder = new StringDecoder("utf8")
  let rest = ""
  source.on("data", (chunk: Buffer) => {
    const lines = (rest + decoder.write(chunk)).split("\n")
    rest = lines.pop() ?? ""
    for (const line of lines) onLine(line)
    while (rest.length > maxLine) {
      onLine(rest.slice(0, maxLine))
      rest = rest.slice(maxLine)
    }
  })
  source.once("end", () => {
    rest += decoder.end()
    if (rest !== "") onLine(rest)
  })
  source.on("error", () => {})
}

/** Starts a process. Nothing stops it but its signals: `stop` belongs into the scope of the caller. */
export const spawn = (options: SpawnOptions): Effect.Effect<Child, SpawnFailed> =>
  Effect.callback<Child, SpawnFailed>((resume) => {
    const failed = (cause: unknown) =>
      resume(
        Effect.fail(
          new SpawnFailed({
            program: options.program,
            message: `cannot run ${options.program}${options.user === undefined ? "" : ` as user ${options.user.name}`}`,
            cause
          })
        )
      )
    try {
      const exited = Deferred.makeUnsafe<Exited>()
      const gone = Deferred.makeUnsafe<void>()
      const child = ChildProcess.spawn(options.program, [...options.args], {
        env: environment(options),
        stdio: ["ignore", options.onStdout === undefined ? "inherit" : "pipe", "pipe", "pipe"],
        detached: true,
        ...(options.user === undefined ? {} : { uid: options.user.uid, gid: options.user.gid })
      })
      child.once("error", failed)
      child.once("exit", (code, signal) => Deferred.doneUnsafe(exited, Effect.succeed({ code, signal })))
      child.once("close", () => Deferred.doneUnsafe(gone, Effect.void))
      if (child.stdout !== null) options.onStdout?.(child.stdout)
      if (child.stderr !== null) readLines(child.stderr, options.onLine)
      // Never written to: only its end matters.
      child.stdio[3]?.on("error", () => {})
      const alive = child.stdio[3]
      if (alive !== null && alive !== undefined && "resume" in alive) alive.resume()
      child.once("spawn", () => {
        const pid = child.pid
        if (pid === undefined) return
        resume(
          Effect.succeed({
            pid,
            exited: Deferred.await(exited),
            gone: Deferred.await(gone),
            signal: (signal) => Effect.sync(() => void child.kill(signal))
          })
        )
      })
    } catch (cause) {
      failed(cause) // a NUL byte in an argument is thrown, not emitted
    }
  })

/** How long descendants have to notice that their parent is gone, and to die of SIGKILL. */
const orphanGrace = Duration.seconds(5)

/**
 * Brings a child down: one signal after the other, then its descendants. `escalate` ends the patience with the current
 * signal. Ends when the last process is gone; fails when one cannot be killed.
 */
export const stop = Effect.fnUntraced(function* (
  child: Child,
  ladder: Ladder,
  directory: string,
  escalate: Effect.Effect<void>
) {
  let down = false
  for (const [signal, grace] of ladder) {
    yield* child.signal(signal)
    const waited = yield* Effect.raceFirst(
      Effect.timeoutOption(child.exited, grace),
      Effect.as(escalate, Option.none<Exited>())
    )
    if (Option.isSome(waited)) {
      down = true
      break
    }
    yield* Effect.logWarning(`process ${child.pid} did not end on ${signal}`)
  }
  if (!down) return yield* new StillAlive({ message: `process ${child.pid} survived SIGKILL` })
  if (Option.isSome(yield* Effect.timeoutOption(child.gone, orphanGrace))) return
  const orphans = yield* Effect.promise(() => processesIn(directory))
  yield* Effect.logWarning(`killing what process ${child.pid} left behind: ${orphans.join(", ") || "unknown"}`)
  yield* Effect.forEach(orphans, (pid) => killPid(pid, "SIGKILL"), { discard: true })
  // A helper that keeps the pipe but left the directory is not Postgres any more.
  if (Option.isSome(yield* Effect.timeoutOption(child.gone, orphanGrace))) return
  const left = yield* Effect.promise(() => processesIn(directory))
  if (left.length > 0) {
    return yield* new StillAlive({ message: `processes ${left.join(", ")} of Postgres cannot be killed` })
  }
})

/** Sends a signal to a process that may be gone already. */
export const killPid = (pid: number, signal: NodeJS.Signals): Effect.Effect<boolean> =>
  Effect.sync(() => {
    try {
      return process.kill(pid, signal)
    } catch {
      return false
    }
  })

/** Text of an exit status as the original prints it: `exit status: N` or `signal: N (NAME)`. */
export const describeExit = (exited: Exited): string =>
  exited.signal === null ? `exit status: ${exited.code}` : `signal: ${exited.signal}`
