/** One node: `bin/compute_ctl` as a child process, and what a user sees of it. */
import { type ChildProcess, type SpawnOptionsWithStdioTuple, spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as PgWire from "../../src/layers/PgWire.ts"
import { ours } from "./exchanges.ts"
import { type Call, type Reply, request } from "./http.ts"

export const program = join(import.meta.dirname, "../../bin/compute_ctl")
const pollMillis = 20

export const Status = Schema.Struct({
  start_time: Schema.String,
  tenant: Schema.NullOr(Schema.String),
  timeline: Schema.NullOr(Schema.String),
  status: Schema.String,
  last_active: Schema.NullOr(Schema.String),
  error: Schema.NullOr(Schema.String)
})
export type Status = typeof Status.Type

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** From the start of the process, in milliseconds. */
  readonly millis: number
}

export type Rows = ReadonlyArray<ReadonlyArray<string | null>>

export interface ComputeOptions {
  readonly name: string
  readonly args: ReadonlyArray<string>
  readonly env: Readonly<Record<string, string>>
  readonly closedInput: boolean
  readonly pgdata: string
  readonly port: number
  readonly externalPort: number
  readonly internalPort: number
  /** Bearer token of the external server. */
  readonly token: Redacted.Redacted<string>
}

export interface Compute extends ComputeOptions {
  readonly pid: number
  readonly stdout: () => string
  /** Without the lines about GET requests: the harness polls. */
  readonly stderr: () => string
  /** With a good token, unless other headers are given. Interrupting closes the connection. */
  readonly external: (what: string, call?: Call) => Effect.Effect<Reply>
  readonly internal: (what: string, call?: Call) => Effect.Effect<Reply>
  readonly status: Effect.Effect<Status>
  /** Polls until the status is this one. Fails at once where the process ends or the node fails instead. */
  readonly waitFor: (status: string, limit?: Duration.Input) => Effect.Effect<Status>
  /** Waits until stderr holds the text. */
  readonly logged: (text: string) => Effect.Effect<void>
  /** Rows of the last statement, in a session of its own as `cloud_admin`. */
  readonly sql: (text: string, database?: string) => Effect.Effect<Rows>
  /** First value of the last statement. */
  readonly value: (text: string, database?: string) => Effect.Effect<string | null>
  /** A session that stays open until the Scope ends. */
  readonly session: Effect.Effect<PgWire.Session, PgWire.PgError, Scope.Scope>
  readonly terminate: (mode?: "fast" | "immediate") => Effect.Effect<Reply>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** The end of the process; its output is complete then. */
  readonly exit: Effect.Effect<Ended>
  /** `/terminate?mode=immediate` and the end of the process, which must be a good one. The answer's LSN. */
  readonly stop: Effect.Effect<string | null>
  /** Text of a file in PGDATA. */
  readonly file: (path: string) => Effect.Effect<string>
  /** Pid of the postmaster, from PGDATA. */
  readonly postmaster: Effect.Effect<number>
}

const fail = (message: string) => Effect.die(new Error(message))

const decodeStatus = Schema.decodeUnknownEffect(Status)
const decodeLsn = Schema.decodeUnknownEffect(Schema.Struct({ lsn: Schema.NullOr(Schema.String) }))

/** Waits for a condition, with a deadline. */
export const eventually = (
  what: string | (() => string),
  holds: () => boolean | Promise<boolean>,
  limit: Duration.Input = "20 seconds"
) =>
  Effect.gen(function* () {
    while (!(yield* Effect.promise(async () => holds()))) yield* Effect.sleep(pollMillis)
  }).pipe(
    Effect.timeoutOrElse({
      duration: limit,
      orElse: () => fail(`waited in vain until ${typeof what === "string" ? what : what()}`)
    })
  )

/** A process that has ended, but whose parent has not looked at it yet, does not count. */
export const isAlive = (pid: number): boolean => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    return stat[stat.lastIndexOf(")") + 2] !== "Z"
  } catch {
    return false
  }
}

/** Ends a process in any case; politely at first. */
const bringDown = (child: ChildProcess, exited: Effect.Effect<unknown>) =>
  Effect.gen(function* () {
    for (const [signal, patience] of [
      ["SIGTERM", "15 seconds"],
      ["SIGTERM", "5 seconds"],
      ["SIGKILL", "5 seconds"]
    ] as const) {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill(signal)
      yield* Effect.timeoutOption(exited, patience)
    }
  })

/** Starts a node; one that still runs when the Scope ends is ended then. */
export const start = Effect.fnUntraced(function* (options: ComputeOptions) {
  const begun = performance.now()
  const output = { stdout: "", stderr: "" }
  const exited = Deferred.makeUnsafe<Ended>()
  const closed = Deferred.makeUnsafe<void>()
  let ended: Ended | undefined
  yield* Effect.acquireRelease(
    Effect.sync(() => [ours(options.externalPort, "external"), ours(options.internalPort, "internal")]),
    (strangers) =>
      Effect.sync(() => {
        for (const stranger of strangers) stranger()
      })
  )
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const settings: SpawnOptionsWithStdioTuple<"ignore", "pipe", "pipe"> = {
        cwd: "/",
        env: options.env,
        stdio: ["ignore", "pipe", "pipe"]
      }
      const spawned = options.closedInput
        ? spawn("/bin/sh", ["-c", 'exec "$0" "$@" <&-', program, ...options.args], settings)
        : spawn(program, options.args, settings)
      spawned.stdout.setEncoding("utf8").on("data", (text) => {
        output.stdout += text
      })
      spawned.stderr.setEncoding("utf8").on("data", (text) => {
        output.stderr += text
      })
      spawned.once("exit", (code, signal) => {
        ended = { code, signal, millis: performance.now() - begun }
        Deferred.doneUnsafe(exited, Exit.succeed(ended))
      })
      spawned.once("close", () => Deferred.doneUnsafe(closed, Exit.void))
      return spawned
    }),
    (spawned) => bringDown(spawned, Deferred.await(exited))
  )
  const { pid } = child
  if (pid === undefined) return yield* fail(`${program} cannot be started`)

  const stderr = (): string => {
    const lines = output.stderr.split("\n").filter((line) => !line.includes('GET" network.protocol.name="http"'))
    return lines.join("\n")
  }
  const story = (): string => `${options.name} logged:\n${stderr()}`

  const call = (port: number, what: string, details: Call) =>
    Effect.catch(request(port, what, details), (error) => fail(`${what} on ${port}: ${error}\n${story()}`))
  const authorized = (details: Call): Call => ({
    ...details,
    headers: details.headers ?? { authorization: `Bearer ${Redacted.value(options.token)}` }
  })
  const external = (what: string, details: Call = {}) => call(options.externalPort, what, authorized(details))

  /** Undefined while nobody listens yet, or any more. */
  const look = request(options.externalPort, "GET /status", authorized({})).pipe(
    Effect.flatMap(({ json }) => decodeStatus(json)),
    Effect.catch(() => Effect.succeed(undefined))
  )

  const waitFor = (wanted: string, limit: Duration.Input = "20 seconds") =>
    Effect.gen(function* () {
      while (true) {
        const seen = yield* look
        if (seen?.status === wanted) return seen
        if (seen?.status === "failed") return yield* fail(`not ${wanted} but failed: ${seen.error}\n${story()}`)
        if (ended !== undefined) return yield* fail(`not ${wanted}, the process ended: ${ended.code}\n${story()}`)
        yield* Effect.sleep(pollMillis)
      }
    }).pipe(
      Effect.timeoutOrElse({ duration: limit, orElse: () => fail(`did not become ${wanted} in time\n${story()}`) })
    )

  const connect = (database: string) =>
    PgWire.connect({
      target: {
        host: "127.0.0.1",
        port: options.port,
        user: "cloud_admin",
        database,
        password: undefined,
        options: undefined
      }
    })
  const sql = (text: string, database = "postgres") =>
    Effect.scoped(Effect.flatMap(connect(database), (session) => session.query(text))).pipe(
      Effect.map((sets) => sets.at(-1)?.rows ?? []),
      Effect.orDie
    )

  const exit = Effect.gen(function* () {
    const end = yield* Deferred.await(exited)
    yield* Effect.timeoutOption(Deferred.await(closed), "500 millis")
    return end
  }).pipe(Effect.timeoutOrElse({ duration: "50 seconds", orElse: () => fail(`the process did not end\n${story()}`) }))

  const terminate = (mode?: "fast" | "immediate") =>
    external(`POST /terminate${mode === undefined ? "" : `?mode=${mode}`}`)

  const file = (path: string) => Effect.promise(() => fs.readFile(join(options.pgdata, path), "utf8"))

  const node: Compute = {
    ...options,
    pid,
    stdout: () => output.stdout,
    stderr,
    external,
    internal: (what, details = {}) => call(options.internalPort, what, details),
    status: Effect.flatMap(external("GET /status"), ({ json }) => Effect.orDie(decodeStatus(json))),
    waitFor,
    logged: (text) =>
      eventually(
        () => `stderr holds ${text}\n${story()}`,
        () => output.stderr.includes(text)
      ),
    sql,
    value: (text, database) => Effect.map(sql(text, database), ([row]) => row?.[0] ?? null),
    session: connect("postgres"),
    terminate,
    signal: (signal) => Effect.sync(() => void child.kill(signal)),
    exit,
    stop: Effect.gen(function* () {
      const answer = yield* terminate("immediate")
      const { code } = yield* exit
      if (answer.status !== 200 || code !== 0) {
        return yield* fail(`terminate: ${answer.status} ${answer.text}, exit code ${code}\n${story()}`)
      }
      return (yield* Effect.orDie(decodeLsn(answer.json))).lsn
    }),
    file,
    postmaster: Effect.map(file("postmaster.pid"), (text) => Number(text.split("\n")[0]))
  }
  return node
})
