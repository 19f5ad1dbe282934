/** One run of `bin/compute_ctl` on the emulated storage, and what can be read from it. */
import { readFileSync } from "node:fs"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { root } from "../../build/inputs.ts"
import { ComputeMetrics } from "../../src/domain/ComputeMetrics.ts"
import { freePort } from "../../test/support/ports.ts"
import { ask, firstAnswer, get } from "./ask.ts"
import type { Emulator } from "./emulator.ts"
import { type BenchFailed, type Exited, fail, lines, type Process, start, within } from "./processes.ts"
import { attachedCompute, type Ending, emptyCompute } from "./protocol.ts"

const runLimit = "120 seconds"
const exitLimit = "60 seconds"

const launcher = join(root, "bin/compute_ctl")
/** Nothing of the caller's environment may decide what is measured. */
const environment = { PATH: "/usr/local/bin:/usr/bin:/bin", LC_ALL: "C.UTF-8" }

/** The process with its log as a pipe. Signals take Postgres down, too. */
export const launchBare = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>>) =>
  start(launcher, args, { env: { ...environment, ...env }, stdio: ["ignore", "ignore", "pipe"] }, [
    ["SIGTERM", "30 seconds"],
    ["SIGTERM", "10 seconds"],
    ["SIGTERM", "10 seconds"]
  ])

const launch = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>>) =>
  Effect.map(launchBare(args, env), (process) => ({ process, log: lines(process.child.stderr) }))

/** Memory of a process in MiB: `VmRSS` now, `VmHWM` the most so far. */
export const memory = ({ pid }: Process, name: "VmRSS" | "VmHWM"): number => {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB`, "mu").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]
  return Number(kib) / 1024
}

/** A tick of the clock that the kernel counts processor time by, in milliseconds. */
const tick = 10

const cpuMillis = ({ pid }: Process): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
  const [user, system] = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .slice(11, 13)
  return (Number(user) + Number(system)) * tick
}

const decodeKeys = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Struct({ compute_ctl_config: Schema.Json })))
const decodeMetrics = Schema.decodeUnknownEffect(Schema.fromJsonString(ComputeMetrics))

/** Milliseconds of each stage, from the histogram. */
const readStages = (metrics: string): ReadonlyMap<string, number> =>
  new Map(
    [...metrics.matchAll(/^compute_ctl_startup_stage_duration_seconds_sum\{.*stage="(\w+)".*\} (\S+)$/gmu)].map(
      ([, stage = "", seconds]) => [stage, Number(seconds) * 1000]
    )
  )

const ended = (process: Process, log: ReturnType<typeof lines>) =>
  Effect.flatMap(process.exited, ({ code, signal }) =>
    fail(`compute_ctl ended with ${signal ?? `code ${code}`}:\n${log.tail()}`)
  )

export const cleanExit = (exited: Effect.Effect<Exited>): Effect.Effect<Exited, BenchFailed> =>
  exited.pipe(
    within(exitLimit, "compute_ctl did not end"),
    Effect.tap(({ code, signal }) => (code === 0 ? Effect.void : fail(`compute_ctl ended with ${signal ?? code}`)))
  )

export const ports = Effect.all([Effect.promise(freePort), Effect.promise(freePort), Effect.promise(freePort)])

export const nodeArguments = (options: {
  readonly pgdata: string
  readonly postgres: string
  readonly ports: readonly [postgres: number, external: number, internal: number]
}): ReadonlyArray<string> => [
  `--pgdata=${options.pgdata}`,
  `--connstr=postgresql://cloud_admin@127.0.0.1:${options.ports[0]}/postgres`,
  `--pgbin=${options.postgres}`,
  `--external-http-port=${options.ports[1]}`,
  `--internal-http-port=${options.ports[2]}`,
  "--external-http-host=127.0.0.1"
]

/** Where a node has its configuration from. */
export type Source = "control plane" | "file"

/** A running node. Times are milliseconds of `performance.now()`. */
export interface Running {
  readonly process: Process
  readonly pgdata: string
  readonly port: number
  readonly externalPort: number
  readonly internalPort: number
  readonly log: ReturnType<typeof lines>
  /** The configuration that it was started with, as text, and where to put another one for a refresh. */
  readonly config: string
  readonly publish: (config: string) => Effect.Effect<void, BenchFailed>
  /** Processor time so far, of all its threads, in milliseconds. */
  readonly cpuMillis: () => number
  readonly runningAt: number
  readonly peakMib: number
  readonly metrics: ComputeMetrics
  /** Milliseconds of each stage that was run. */
  readonly stageMillis: ReadonlyMap<string, number>
  readonly mib: () => number
  readonly end: (ending: Ending) => Effect.Effect<void, BenchFailed>
  /** `POST /terminate?mode=immediate`: milliseconds to the answer, and to the exit. */
  readonly terminate: Effect.Effect<{ readonly answer: number; readonly exit: number }, BenchFailed>
  /** SIGTERM: milliseconds to the exit. */
  readonly stop: Effect.Effect<number, BenchFailed>
}

/**
 * Brings a node up. That it runs is read from its log: polling `/status` would be work for the process that is measured.
 *
 * @param pgdata must not exist
 */
export const running = Effect.fnUntraced(function* (options: {
  readonly emulator: Emulator
  readonly directory: string
  readonly pgdata: string
  readonly postgres: string
  /** Where it has its configuration from; a file, if nothing is said. */
  readonly source?: Source
}) {
  const { emulator, pgdata, source = "file" } = options
  const [port, external, internal] = yield* ports
  const { config } = yield* emulator.document(port)
  const file = join(options.directory, "config.json")
  const publish = (text: string): Effect.Effect<void, BenchFailed> =>
    source === "file" ? Effect.promise(() => fs.writeFile(file, text)) : emulator.attach(text)
  yield* publish(config)
  const { log, process } = yield* launch(
    [
      ...nodeArguments({ pgdata, postgres: options.postgres, ports: [port, external, internal] }),
      source === "file" ? `--config=${file}` : `--control-plane-uri=${emulator.controlPlane}`,
      `--compute-id=${attachedCompute}`
    ],
    { NEON_CONTROL_PLANE_TOKEN: emulator.controlPlaneToken }
  )
  const up = yield* Effect.raceFirst(
    log.find(/Changing compute status from init to running/u),
    ended(process, log)
  ).pipe(within(runLimit, "compute_ctl did not get to run"))
  const peakMib = memory(process, "VmHWM")
  const metrics = yield* Effect.orDie(Effect.flatMap(get(external, "/metrics.json", emulator.token), decodeMetrics))
  const stageMillis = readStages(yield* get(external, "/metrics", emulator.token))
  const node: Running = {
    process,
    pgdata,
    port,
    externalPort: external,
    internalPort: internal,
    log,
    config,
    publish,
    cpuMillis: () => cpuMillis(process),
    runningAt: up.at,
    peakMib,
    metrics,
    stageMillis,
    mib: () => memory(process, "VmRSS"),
    end: emulator.end,
    terminate: Effect.gen(function* () {
      const began = performance.now()
      const answer = yield* ask(external, "POST /terminate?mode=immediate", emulator.token)
      if (answer.status !== 200) return yield* fail(`/terminate answers ${answer.status}: ${answer.body}`)
      const exited = yield* cleanExit(process.exited)
      return { answer: answer.at - began, exit: exited.at - began }
    }).pipe(within(exitLimit, "no end after /terminate")),
    stop: Effect.gen(function* () {
      const began = performance.now()
      yield* process.signal("SIGTERM")
      return (yield* cleanExit(process.exited)).at - began
    })
  }
  return node
})

/** Starts a node without a spec; milliseconds to the first answer, memory in MiB soon after. */
export const emptyStart = Effect.fnUntraced(function* (emulator: Emulator, directory: string, source: Source) {
  const all = yield* ports
  const file = join(directory, "config.json")
  const { config } = yield* emulator.document(all[0])
  const { compute_ctl_config } = yield* Effect.orDie(decodeKeys(config))
  yield* Effect.promise(() => fs.writeFile(file, JSON.stringify({ compute_ctl_config })))
  const { log, process } = yield* launch(
    [
      ...nodeArguments({ pgdata: join(directory, "pgdata"), postgres: emulator.postgres, ports: all }),
      source === "file" ? `--config=${file}` : `--control-plane-uri=${emulator.controlPlane}`,
      `--compute-id=${emptyCompute}`
    ],
    { NEON_CONTROL_PLANE_TOKEN: emulator.controlPlaneToken }
  )
  const answer = yield* Effect.raceFirst(firstAnswer(all[1], "GET /status", emulator.token), ended(process, log))
  if (answer.status !== 200 || !answer.body.includes('"status":"empty"')) {
    return yield* fail(`GET /status of an empty node answers ${answer.status}: ${answer.body}`)
  }
  yield* Effect.sleep("300 millis")
  const mib = memory(process, "VmRSS")
  yield* process.signal("SIGTERM")
  yield* cleanExit(process.exited)
  return { millis: answer.at - process.started, mib }
})
