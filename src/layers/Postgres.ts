/**
 * The postmaster, and `postgres --sync-safekeepers`.
 *
 * A postmaster lives in a Scope: leaving it, for whatever reason, brings Postgres down by the ladder of decision P1 and
 * waits until its last process is gone. Nothing else signals it.
 *
 * Source: reference/startup §11.2, §15, §20; differs: a postmaster that does not become ready is brought down.
 */
import { watch } from "node:fs"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Ref from "effect/Ref"
import type * as Scope from "effect/Scope"
import * as Lsn from "../domain/Lsn.ts"
import { makeJoiner } from "../domain/PostgresLog.ts"
import * as Children from "./Children.ts"
import { writeRaw } from "./Logging.ts"
import { Owner } from "./Owner.ts"
import { Params } from "./Params.ts"
import * as SharedMemory from "./sharedMemory.ts"

export type { Exited } from "./Children.ts"

/** Postgres could not be started, died while starting, or did not become ready in time. */
export class PostgresStartFailed extends Data.TaggedError("PostgresStartFailed")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/** One run of `postgres --sync-safekeepers` failed. */
export class SyncSafekeepersFailed extends Data.TaggedError("SyncSafekeepersFailed")<{
  readonly message: string
  readonly cause?: unknown
}> {}

export interface Postmaster {
  readonly pid: number
  readonly exited: Effect.Effect<Children.Exited>
}

/** What is known of the Postgres that this process started last. */
export type Ending =
  | { readonly _tag: "NeverStarted" }
  | { readonly _tag: "Alive"; readonly child: Children.Child }
  | { readonly _tag: "Gone"; readonly exited: Children.Exited }
  | { readonly _tag: "StillAlive"; readonly message: string }

/** Fast shutdown, then immediate, then kill. Five seconds after SIGQUIT Postgres itself kills what is left. */
const fastLadder: Children.Ladder = [
  ["SIGINT", "60 seconds"],
  ["SIGQUIT", "10 seconds"],
  ["SIGKILL", "5 seconds"]
]
const immediateLadder: Children.Ladder = fastLadder.slice(1)

/** Postgres gets this long to accept connections (reference/startup §15.2). */
const readyTimeout = "60 seconds"

/** A message is complete when no line has followed for this long, in milliseconds (reference/startup §15.3). */
const logFlushMillis = 100

export class Postgres extends Context.Service<
  Postgres,
  {
    /** Starts the postmaster in PGDATA and waits until it accepts connections. */
    readonly start: (options: {
      readonly token: Redacted.Redacted<string> | undefined
      readonly env: Readonly<Record<string, string>>
    }) => Effect.Effect<Postmaster, PostgresStartFailed, Scope.Scope>
    /** Runs `postgres --sync-safekeepers` once; PGDATA must hold postgresql.conf. */
    readonly syncSafekeepers: (
      token: Redacted.Redacted<string> | undefined
    ) => Effect.Effect<Lsn.Lsn, SyncSafekeepersFailed>
    /** Asks the running postmaster to read its configuration again; nothing happens without one. */
    readonly reload: Effect.Effect<void>
    readonly ending: Effect.Effect<Ending>
    /** A new attempt begins: `ending` is `NeverStarted` again. */
    readonly forget: Effect.Effect<void>
    /** The next step of the ladder is taken at once. */
    readonly escalate: Effect.Effect<void>
    /** From now on Postgres is stopped without a shutdown checkpoint (SIGQUIT). */
    readonly stopImmediately: Effect.Effect<void>
  }
>()("compute/layers/Postgres") {
  static readonly layer = Layer.effect(
    Postgres,
    Effect.suspend(() => make)
  )
}

/** Writes complete messages of a Postgres process to our stderr and remembers why it gave up. */
const logCollector = () => {
  let lastFatal: string | undefined
  const joiner = makeJoiner()
  let timer: NodeJS.Timeout | undefined
  const emit = (message: string | undefined): void => {
    if (message === undefined) return
    const fatal = /(?:FATAL|PANIC):\s+(.*)/u.exec(message)?.[1]
    if (fatal !== undefined) lastFatal = fatal
    writeRaw(message)
  }
  const flush = (): void => {
    clearTimeout(timer)
    emit(joiner.flush())
  }
  return {
    onLine: (line: string): void => {
      clearTimeout(timer)
      emit(joiner.push(line))
      timer = setTimeout(flush, logFlushMillis)
    },
    flush,
    lastFatal: () => lastFatal
  }
}

/**
 * Ends when `postmaster.pid` in PGDATA belongs to this postmaster and says `ready`. Event driven; a file system without
 * notifications is looked at every 50 ms.
 */
const ready = (pgdata: string, pid: number): Effect.Effect<void, PostgresStartFailed> =>
  Effect.scoped(
    Effect.gen(function* () {
      const path = join(pgdata, "postmaster.pid")
      const changes = yield* Queue.sliding<void>(1)
      const wake = () => void Queue.offerUnsafe(changes, undefined)
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          try {
            const watcher = watch(pgdata, (_event, name) => {
              if (name === null || name === "postmaster.pid") wake()
            })
            watcher.on("error", wake)
            return () => watcher.close()
          } catch {
            const poll = setInterval(wake, 50)
            return () => clearInterval(poll)
          }
        }),
        (close) => Effect.sync(close)
      )
      while (true) {
        const lines = (yield* Effect.promise(() => readFile(path, "utf8").catch(() => ""))).trimEnd().split("\n")
        if (lines[0] === String(pid) && lines.at(-1)?.trim() === "ready") return
        yield* Queue.take(changes)
      }
    })
  )

const make = Effect.gen(function* () {
  const params = yield* Params
  const owner = yield* Owner
  const escalations = yield* Queue.unbounded<void>()
  const immediate = yield* Ref.make(false)
  const ending = yield* Ref.make<Ending>({ _tag: "NeverStarted" })

  /** Under autoscaling children run in the cgroup that the vm-monitor watches (reference/startup §15.1). */
  const command = (args: ReadonlyArray<string>): readonly [string, ReadonlyArray<string>] =>
    params.autoscaling ? ["cgexec", ["-g", "memory:neon-postgres", params.pgbin, ...args]] : [params.pgbin, args]

  const childEnv = (token: Redacted.Redacted<string> | undefined, more: Readonly<Record<string, string>>) => ({
    ...params.environment,
    ...(token === undefined ? {} : { NEON_AUTH_TOKEN: Redacted.value(token) }),
    ...more
  })

  const bringDown = (child: Children.Child, mapped: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const ladder = (yield* Ref.get(immediate)) ? immediateLadder : fastLadder
      yield* Children.stop(child, ladder, params.pgdata, Queue.take(escalations)).pipe(
        Effect.andThen(child.exited),
        Effect.matchEffect({
          onSuccess: (exited) =>
            Effect.andThen(
              exited.signal === null ? Effect.void : SharedMemory.release(params.pgdata, mapped),
              Ref.set(ending, { _tag: "Gone", exited })
            ),
          onFailure: ({ message }) =>
            Effect.andThen(Effect.logError(message), Ref.set(ending, { _tag: "StillAlive", message }))
        })
      )
    })

  const start: Postgres["Service"]["start"] = Effect.fnUntraced(function* ({ token, env }) {
    const log = logCollector()
    let mapped: ReadonlyArray<string> = []
    const [program, args] = command(["-D", params.pgdata])
    const child = yield* Effect.acquireRelease(
      Effect.tap(
        Children.spawn({
          program,
          args,
          env: childEnv(token, env),
          user: owner.user,
          onLine: log.onLine
        }),
        (child) => Ref.set(ending, { _tag: "Alive", child })
      ),
      (child) =>
        Effect.ensuring(
          Effect.suspend(() => bringDown(child, mapped)),
          Effect.sync(log.flush)
        )
    ).pipe(
      Effect.mapError(
        ({ message, cause }) =>
          new PostgresStartFailed({ message: "cannot start postgres process", cause: new Error(message, { cause }) })
      )
    )
    const died = Effect.flatMap(child.exited, (exited) =>
      Effect.andThen(
        Effect.timeoutOption(child.gone, "1 second"), // its last words
        Effect.suspend(() => {
          log.flush()
          const fatal = log.lastFatal()
          return Effect.fail(
            new PostgresStartFailed({
              message: `Postgres exited unexpectedly with code ${exited.code ?? -1}`,
              ...(fatal === undefined ? {} : { cause: new Error(fatal) })
            })
          )
        })
      )
    )
    yield* Effect.raceFirst(ready(params.pgdata, child.pid), died).pipe(
      Effect.timeoutOrElse({
        duration: readyTimeout,
        orElse: () => Effect.fail(new PostgresStartFailed({ message: "timed out while waiting for Postgres to start" }))
      }),
      Effect.withSpan("wait_for_postgres", { attributes: { pgdata: params.pgdata } })
    )
    mapped = yield* SharedMemory.mappedBy(child.pid)
    return { pid: child.pid, exited: child.exited }
  })

  const syncSafekeepers: Postgres["Service"]["syncSafekeepers"] = Effect.fnUntraced(function* (token) {
    const log = logCollector()
    const output: Array<Buffer> = []
    const [program, args] = command(["--sync-safekeepers"])
    const child = yield* Effect.acquireRelease(
      Children.spawn({
        program,
        args,
        env: childEnv(token, { PGDATA: params.pgdata }),
        user: owner.user,
        onLine: log.onLine,
        onStdout: (source) => void source.on("data", (chunk: Buffer) => output.push(chunk))
      }),
      (child) =>
        Children.stop(child, syncLadder, params.pgdata, Effect.never).pipe(
          Effect.catch(({ message }) => Effect.logError(message)),
          Effect.ensuring(Effect.sync(log.flush))
        )
    ).pipe(
      Effect.mapError(
        ({ message, cause }) =>
          new SyncSafekeepersFailed({
            message: "postgres --sync-safekeepers failed to start",
            cause: new Error(message, { cause })
          })
      )
    )
    const exited = yield* child.exited
    yield* Effect.timeoutOption(child.gone, "1 second")
    const stdout = Buffer.concat(output).toString("utf8").trim()
    if (exited.code !== 0) {
      log.flush()
      const fatal = log.lastFatal()
      return yield* new SyncSafekeepersFailed({
        message: `postgres --sync-safekeepers exited with non-zero status: ${Children.describeExit(exited)}. stdout: ${stdout}`,
        ...(fatal === undefined ? {} : { cause: new Error(fatal) })
      })
    }
    const lsn = Lsn.parse(stdout)
    return lsn === undefined
      ? yield* new SyncSafekeepersFailed({
          message: `postgres --sync-safekeepers printed no LSN: ${JSON.stringify(stdout.slice(0, 200))}`
        })
      : lsn
  }, Effect.scoped)

  return Postgres.of({
    start,
    syncSafekeepers,
    reload: Effect.flatMap(Ref.get(ending), (now) => (now._tag === "Alive" ? now.child.signal("SIGHUP") : Effect.void)),
    ending: Ref.get(ending),
    forget: Ref.set(ending, { _tag: "NeverStarted" }),
    escalate: Effect.asVoid(Queue.offer(escalations, undefined)),
    stopImmediately: Ref.set(immediate, true)
  })
})

/** A sync that is not wanted any more; it holds nothing that it could lose. */
const syncLadder: Children.Ladder = [
  ["SIGTERM", "2 seconds"],
  ["SIGKILL", "5 seconds"]
]

/** Exit code of the process after a Postgres that ended so: its own, 1 for a signal (reference/startup §21.6). */
export const exitCode = (exited: Children.Exited): number => exited.code ?? 1
