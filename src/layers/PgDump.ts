/**
 * `pg_dump` as a stream of SQL.
 *
 * The process lives in the Scope: whoever stops reading ends it, and what it was running on the server. It is looked for
 * beside the postgres program, then in PATH. The name of the database travels in the environment, because a name with `=`
 * on the command line would be a connection string. Source: reference/http-api §7.8.
 */
import { constants } from "node:fs"
import { access } from "node:fs/promises"
import { delimiter, dirname, join } from "node:path"
import { Readable } from "node:stream"
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { PostgresTarget } from "../domain/ConnString.ts"
import * as Children from "./Children.ts"
import type { User } from "./Owner.ts"

/** It is not there, it could not be run, or it failed. The message has its own words. */
export class PgDumpFailed extends Data.TaggedError("PgDumpFailed")<{ readonly message: string }> {}

export interface PgDumpOptions {
  readonly target: PostgresTarget
  readonly database: string
  /** Absolute path of the postgres program. */
  readonly pgbin: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly user: User | undefined
}

/** A dump holds locks: one that is not read, or does not come to its end, is ended after this time. */
const dumpTimeout = Duration.minutes(15)
/** On the locks it needs; given up after this time. */
const lockTimeout = Duration.seconds(30)
const connectTimeout = Duration.seconds(10)

/** SIGTERM makes it cancel what the server does for it. */
const ladder = [
  ["SIGTERM", "500 millis"],
  ["SIGKILL", "5 seconds"]
] as const

/** Of what it says on stderr, so many lines are kept for the error. */
const keptLines = 10

const isExecutable = (path: string): Promise<boolean> =>
  access(path, constants.X_OK).then(
    () => true,
    () => false
  )

const find = (pgbin: string, { PATH = "" }: PgDumpOptions["environment"]): Effect.Effect<string, PgDumpFailed> =>
  Effect.gen(function* () {
    const folders = [dirname(pgbin), ...PATH.split(delimiter).filter((folder) => folder !== "")]
    for (const folder of folders) {
      const path = join(folder, "pg_dump")
      if (yield* Effect.promise(() => isExecutable(path))) return path
    }
    return yield* new PgDumpFailed({ message: `there is no pg_dump, neither beside ${pgbin} nor in PATH` })
  })

const flags = ({ target }: PgDumpOptions): ReadonlyArray<string> => [
  "--host",
  target.host,
  "--port",
  String(target.port),
  "--username",
  target.user,
  "--no-password",
  `--lock-wait-timeout=${Duration.toMillis(lockTimeout)}`,
  "--schema-only"
]

const variables = ({ database, environment, target }: PgDumpOptions) => ({
  ...environment,
  LC_ALL: "C", // its words are looked at below
  PGDATABASE: database,
  PGCONNECT_TIMEOUT: String(Duration.toSeconds(connectTimeout)),
  ...(target.password === undefined ? {} : { PGPASSWORD: target.password })
})

/** Ends the process and everything that it started; all of it is one process group. */
const end = (child: Children.Child, output: Readable) =>
  Effect.gen(function* () {
    output.destroy() // what is not read would keep it from ending
    for (const [signal, grace] of ladder) {
      if (Option.isSome(yield* Effect.timeoutOption(child.gone, 0))) return
      yield* Children.killPid(-child.pid, signal)
      yield* Effect.timeoutOption(child.gone, grace)
    }
  })

/** What it said, in one line. Another version than the server's is the usual reason, and has a remedy. */
const explain = (program: string, said: ReadonlyArray<string>): string => {
  const words = said.map((line) => line.replace(/^pg_dump: (?:error|detail): /u, "")).join("; ")
  return /server version mismatch/u.test(words)
    ? `${program} is older than the server, install one of its version: ${words}`
    : `failed to execute pg_dump: ${words}`
}

/** The dump of a schema. Nothing has come yet: the first pull tells whether it works. */
export const schema = (
  options: PgDumpOptions
): Effect.Effect<Stream.Stream<Uint8Array, PgDumpFailed>, PgDumpFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const program = yield* find(options.pgbin, options.environment)
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const said: Array<string> = []
    let output = Readable.from([])
    const child = yield* Effect.acquireRelease(
      Children.spawn({
        program,
        args: flags(options),
        env: variables(options),
        user: options.user,
        onLine: (line) => {
          runFork(Effect.logWarning(`pg_dump stderr: ${line}`))
          if (said.length < keptLines) said.push(line)
        },
        onStdout: (source) => {
          output = source
        }
      }),
      (started) => end(started, output)
    ).pipe(Effect.mapError(({ message }) => new PgDumpFailed({ message: `failed to execute pg_dump: ${message}` })))
    yield* Effect.forkScoped(
      Effect.andThen(
        Effect.sleep(dumpTimeout),
        Effect.suspend(() => {
          said.push(`it was ended after ${Duration.format(dumpTimeout)}`)
          return end(child, output)
        })
      )
    )
    const failure = Effect.suspend(() => Effect.fail(new PgDumpFailed({ message: explain(program, said) })))
    /** Exit code 0 is the only sign of a whole dump. */
    const whole = Effect.gen(function* () {
      const exited = yield* child.exited
      if (exited.code === 0) return
      yield* Effect.timeoutOption(child.gone, "1 second") // its last words
      if (said.length === 0) said.push(Children.describeExit(exited))
      return yield* failure
    })
    const chunks = NodeStream.fromReadable<Uint8Array, undefined>({ evaluate: () => output, onError: () => undefined })
    return chunks.pipe(
      Stream.catch(() => Stream.empty), // how the process ended says more
      Stream.concat(Stream.fromEffectDrain(whole))
    )
  })
