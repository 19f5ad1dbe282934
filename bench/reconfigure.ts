/**
 * How fast a running node changes, and what it costs when nothing happens.
 *
 *     npm run bench:reconfigure -- [--rounds N] [--idle SECONDS] [--json FILE]
 *
 * `bin/compute_ctl` runs against the emulated storage and control plane, which are a process of their own, with a real
 * Postgres. "In force" is seen by a session that was there before and looks each millisecond; "running" is read from the
 * log. Medians are printed with the least and the most. Works in the temporary directory, which is cleaned up.
 */
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { localAdmin } from "../src/domain/ConnString.ts"
import * as PgWire from "../src/layers/PgWire.ts"
import { ask } from "./support/ask.ts"
import { type Running, running, type Source } from "./support/compute.ts"
import { type Emulator, emulator } from "./support/emulator.ts"
import { Figures } from "./support/figures.ts"
import { machine } from "./support/machine.ts"
import { publish, runBench } from "./support/main.ts"
import { BenchFailed, fail, within } from "./support/processes.ts"

/** What a change shall stay below, from the notification until the new address is in force. */
const aims: Readonly<Record<Source, number>> = { file: 15, "control plane": 50 }

const readOptions = Effect.try({
  try: () => {
    const { values } = parseArgs({
      options: {
        rounds: { type: "string", default: "20" },
        idle: { type: "string", default: "30" },
        json: { type: "string" }
      }
    })
    const whole = (name: string, text: string): number => {
      if (!/^[1-9][0-9]{0,5}$/u.test(text)) throw new Error(`--${name}: ${text} is not a positive whole number`)
      return Number(text)
    }
    return { rounds: whole("rounds", values.rounds), idle: whole("idle", values.idle), json: values.json }
  },
  catch: (cause) => new BenchFailed({ message: cause instanceof Error ? cause.message : String(cause) })
})

const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(async () => {
    const path = await fs.mkdtemp(join(tmpdir(), "bench-reconfigure-"))
    await fs.chmod(path, 0o755) // whoever runs Postgres passes through it
    return path
  }),
  (path) => Effect.promise(() => fs.rm(path, { recursive: true, force: true }))
)

interface Change {
  readonly label: string
  /** Members of the spec; `round` makes them differ from those of the round before. */
  readonly spec: (spec: Spec, round: number) => Spec
}
type Spec = Readonly<Record<string, unknown>>

const pageserver = (round: number): string => `postgresql://127.0.0.1:${20_000 + (round % 1000)}`

const moved: Change = {
  label: "pageserver moved",
  spec: (spec, round) => ({ ...spec, pageserver_connection_info: undefined, pageserver_connstring: pageserver(round) })
}
const unchanged: Change = { label: "unchanged", spec: (spec) => spec }
const changes: ReadonlyArray<Change> = [
  {
    label: "one setting changed",
    spec: (spec, round) => ({
      ...spec,
      cluster: {
        ...Object(spec["cluster"]),
        settings: [{ name: "work_mem", value: `${4 + (round % 9)}MB`, vartype: "string" }]
      }
    })
  },
  moved
]

/** Where the work on the catalogs counts, too, and where there is only postgresql.conf. */
const kinds = [
  { label: "/configure, settings alone", catalogs: false },
  { label: "/configure, settings and catalogs", catalogs: true }
] as const

const documentOf = (node: Running, change: Change, round: number, catalogs = false): string => {
  const { spec, ...rest }: { readonly spec: Spec } = JSON.parse(node.config)
  return JSON.stringify({ ...rest, spec: { ...change.spec(spec, round), skip_pg_catalog_updates: !catalogs } })
}

const withNode = <A, E, R>(
  at: { readonly directory: string; readonly storage: Emulator; readonly source: Source },
  use: (node: Running) => Effect.Effect<A, E, R>
) =>
  Effect.gen(function* () {
    const directory = yield* Effect.promise(async () => {
      const path = await fs.mkdtemp(join(at.directory, "run-"))
      await fs.chmod(path, 0o755)
      return path
    })
    const node = yield* running({
      emulator: at.storage,
      directory,
      pgdata: join(directory, "pgdata"),
      postgres: at.storage.postgres,
      source: at.source
    })
    const result = yield* use(node)
    yield* node.end("agree")
    yield* node.stop
    return result
  }).pipe(Effect.scoped)

const measureConfigure = (figures: Figures, node: Running, token: string, rounds: number) =>
  Effect.gen(function* () {
    const configure = Effect.fnUntraced(function* (body: string) {
      const began = performance.now()
      const answer = yield* ask(node.externalPort, "POST /configure", token, body)
      if (answer.status !== 200) return yield* fail(`/configure answers ${answer.status}: ${answer.body}`)
      return answer.at - began
    })
    for (let round = 1; round <= rounds; round++) {
      for (const { catalogs, label } of kinds) {
        yield* configure(documentOf(node, unchanged, round, catalogs)) // takes back what the round before has changed
        for (const change of [unchanged, ...changes]) {
          figures.add(label, change.label, "ms", yield* configure(documentOf(node, change, round, catalogs)))
        }
      }
    }
  })

const measureRefresh = (figures: Figures, node: Running, source: Source, rounds: number) =>
  Effect.gen(function* () {
    const group = `refresh, configuration from the ${source}: pageserver moved`
    const session = yield* PgWire.connect({
      target: localAdmin(node.port)
    })
    const seen = Effect.map(session.query("SHOW neon.pageserver_connstring"), ([set]) => set?.rows[0]?.[0])
    for (let round = 1; round <= rounds; round++) {
      yield* node.publish(documentOf(node, moved, round))
      yield* Effect.sleep("50 millis")
      const began = performance.now()
      const running = yield* Effect.forkScoped(
        node.log.find(/Changing compute status from refresh-configuration to running/u, began)
      )
      const answer = yield* ask(node.internalPort, "POST /refresh_configuration")
      if (answer.status !== 200) return yield* fail(`/refresh_configuration answers ${answer.status}: ${answer.body}`)
      while ((yield* seen) !== pageserver(round)) yield* Effect.sleep("1 millis")
      const inForce = performance.now()
      const { at } = yield* Fiber.join(running)
      const first = round === 1 ? "the first one, notification → in force" : "notification → in force"
      figures.add(group, first, "ms", inForce - began, aims[source])
      figures.add(group, "notification → running", "ms", at - began)
    }
  }).pipe(Effect.scoped, within("120 seconds", "the refreshes were not over"))

const measureIdle = (figures: Figures, node: Running, seconds: number) =>
  Effect.gen(function* () {
    const before = node.cpuMillis()
    yield* Effect.sleep(seconds * 1000)
    figures.add("nothing happens", `processor time in ${seconds} s`, "ms", node.cpuMillis() - before)
  })

const bench = Effect.gen(function* () {
  const { idle, json, rounds } = yield* readOptions
  const directory = yield* temporaryDirectory
  const storage = yield* emulator(join(directory, "storage"), join(directory, "cache"))
  const described = machine(directory, storage.version)
  yield* Console.log(`${described}\n${rounds} rounds, median (least–most)`)
  const figures = new Figures()
  yield* withNode({ directory, storage, source: "file" }, (node) =>
    Effect.gen(function* () {
      yield* measureRefresh(figures, node, "file", rounds)
      yield* measureConfigure(figures, node, storage.token, rounds)
      yield* measureIdle(figures, node, idle)
    })
  )
  yield* withNode({ directory, storage, source: "control plane" }, (node) =>
    measureRefresh(figures, node, "control plane", rounds)
  )
  yield* publish(figures, { machine: described, rounds }, json)
})

runBench("reconfigure", bench)
