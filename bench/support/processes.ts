/** Child processes of the benchmark: started with their exact times, stopped with the Scope. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process"
import type { Readable } from "node:stream"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"

/** Something that is measured did not happen. */
export class BenchFailed extends Data.TaggedError("BenchFailed")<{
  readonly message: string
  readonly cause?: unknown
}> {}

export const fail = (message: string) => Effect.fail(new BenchFailed({ message }))

/** Bounds a wait. */
export const within =
  (duration: Duration.Input, what: string) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | BenchFailed, R> =>
    Effect.timeoutOrElse(self, {
      duration,
      orElse: () => fail(`${what} within ${Duration.format(Duration.fromInputUnsafe(duration))}`)
    })

export interface Exited {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** `performance.now()` */
  readonly at: number
}

export interface Process {
  readonly pid: number
  readonly child: ChildProcess
  /** `performance.now()` before the process was made. */
  readonly started: number
  readonly exited: Effect.Effect<Exited>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

const sendToGroup = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(-pid, signal)
  } catch {
    // gone already
  }
}

/** Signals that stop a process, each with the patience it gets; the last one is followed by SIGKILL. */
export type Ladder = ReadonlyArray<readonly [NodeJS.Signals, Duration.Input]>

/**
 * Starts a process in a group of its own, so that Ctrl-C reaches the benchmark alone, which then stops everything.
 * Signals go to the whole group: a pipeline of the shell has several processes.
 */
export const start = (
  program: string,
  args: ReadonlyArray<string>,
  options: SpawnOptions,
  ladder: Ladder
): Effect.Effect<Process, BenchFailed, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Process, BenchFailed>((resume) => {
      const exited = Deferred.makeUnsafe<Exited>()
      const started = performance.now()
      const child = spawn(program, [...args], { ...options, detached: true })
      child.once("error", (cause) => resume(Effect.fail(new BenchFailed({ message: `cannot run ${program}`, cause }))))
      child.once("exit", (code, signal) =>
        Deferred.doneUnsafe(exited, Exit.succeed({ code, signal, at: performance.now() }))
      )
      child.once("spawn", () =>
        resume(
          Effect.succeed({
            pid: child.pid ?? 0,
            child,
            started,
            exited: Deferred.await(exited),
            signal: (signal) => Effect.sync(() => sendToGroup(child.pid ?? 0, signal))
          })
        )
      )
    }),
    (process) =>
      Effect.gen(function* () {
        if (process.child.exitCode !== null || process.child.signalCode !== null) return
        for (const [signal, patience] of ladder) {
          yield* process.signal(signal)
          if (Option.isSome(yield* Effect.timeoutOption(process.exited, patience))) return
        }
        yield* process.signal("SIGKILL")
        yield* process.exited
      })
  )

/** A line with the moment at which it was read. */
export interface Line {
  readonly at: number
  readonly text: string
}

/** Reads a stream line by line, for ever; keeps the last ones for error texts. */
export const lines = (source: Readable | null) => {
  const kept: Array<Line> = []
  let rest = ""
  const watchers = new Set<(line: Line) => void>()
  source?.setEncoding("utf8").on("data", (chunk: string) => {
    const at = performance.now()
    const whole = (rest + chunk).split("\n")
    rest = whole.pop() ?? ""
    for (const text of whole) {
      const line = { at, text }
      kept.push(line)
      for (const watcher of watchers) watcher(line)
    }
  })
  return {
    tail: () =>
      kept
        .slice(-15)
        .map(({ text }) => text)
        .join("\n"),
    /** The first line that matches, of those that were read after `since` (`performance.now()`) or are still to come. */
    find: (pattern: RegExp, since = 0): Effect.Effect<Line> =>
      Effect.callback((resume) => {
        const seen = kept.find(({ at, text }) => at > since && pattern.test(text))
        if (seen !== undefined) return resume(Effect.succeed(seen))
        const watcher = (line: Line): void => {
          if (!pattern.test(line.text)) return
          watchers.delete(watcher)
          resume(Effect.succeed(line))
        }
        watchers.add(watcher)
        return Effect.sync(() => watchers.delete(watcher))
      })
  }
}
