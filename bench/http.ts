/**
 * How fast the HTTP servers of a running node are, access log on, token checked.
 *
 *     npm run bench:http -- [--seconds N] [--databases N] [--json FILE]
 *
 * `bin/compute_ctl` on the emulated storage; the load comes from a process of its own over keep-alive connections, without
 * pipelining, and the log goes through a pipe to `cat`. At the end `/status` is asked 100 times a second while that many
 * databases are made for the first time. Works in the temporary directory, which is cleaned up, also after Ctrl-C.
 */
import { spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import { ask } from "./support/ask.ts"
import { cleanExit, launchBare, memory, nodeArguments, ports } from "./support/compute.ts"
import { type Emulator, emulator } from "./support/emulator.ts"
import { Figures } from "./support/figures.ts"
import { loader } from "./support/loader.ts"
import { machine } from "./support/machine.ts"
import { publish, runBench } from "./support/main.ts"
import { BenchFailed, fail, within } from "./support/processes.ts"

const paths = ["/status", "/metrics", "/metrics.json"]
const connections = [1, 16, 64]
const warmUpSeconds = 3
/** Requests a second while databases are made. */
const applyRate = 100
const applyLimit = "10 minutes"

/** Requests a second of `/status`, by connections; milliseconds; MiB between 10,000 and 100,000 requests. */
const aims = {
  rate: new Map([
    [1, 8000],
    [16, 20_000]
  ]),
  p99: new Map([[16, 5]]),
  p99WhileApplying: 10,
  growth: 5
}

interface Options {
  readonly seconds: number
  readonly databases: number
  readonly json: string | undefined
}

const readOptions = Effect.try({
  try: (): Options => {
    const { values } = parseArgs({
      options: {
        seconds: { type: "string", default: "5" },
        databases: { type: "string", default: "500" },
        json: { type: "string" }
      }
    })
    const whole = (name: string, text: string): number => {
      if (!/^[1-9][0-9]{0,5}$/u.test(text)) throw new Error(`--${name}: ${text} is not a positive whole number`)
      return Number(text)
    }
    return {
      seconds: whole("seconds", values.seconds),
      databases: whole("databases", values.databases),
      json: values.json
    }
  },
  catch: (cause) => new BenchFailed({ message: cause instanceof Error ? cause.message : String(cause) })
})

const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(async () => {
    const path = await fs.mkdtemp(join(tmpdir(), "bench-http-"))
    await fs.chmod(path, 0o755) // whoever runs Postgres passes through it
    return path
  }),
  (path) => Effect.promise(() => fs.rm(path, { recursive: true, force: true }))
)

const Document = Schema.fromJsonString(
  Schema.Struct({
    spec: Schema.Record(Schema.String, Schema.Json),
    compute_ctl_config: Schema.Json
  })
)
type Document = typeof Document.Type

/** That document with so many databases. */
const withDatabases = ({ compute_ctl_config, spec }: Document, count: number): string =>
  JSON.stringify({
    compute_ctl_config,
    spec: {
      ...spec,
      skip_pg_catalog_updates: false,
      cluster: {
        ...Object(spec["cluster"]),
        roles: [{ name: "owner" }],
        databases: Array.from({ length: count }, (_, index) => ({ name: `database_${index}`, owner: "owner" }))
      }
    }
  })

/** A running node whose log somebody reads who costs little. */
const runningNode = Effect.fnUntraced(function* (storage: Emulator, directory: string) {
  const [port, external, internal] = yield* ports
  const { config } = yield* storage.document(port)
  const file = join(directory, "config.json")
  yield* Effect.promise(() => fs.writeFile(file, config))
  const process = yield* launchBare(
    [
      ...nodeArguments({
        pgdata: join(directory, "pgdata"),
        postgres: storage.postgres,
        ports: [port, external, internal]
      }),
      `--config=${file}`,
      "--compute-id=bench"
    ],
    {}
  )
  const { stderr } = process.child
  spawn("cat", { stdio: [stderr, "ignore", "ignore"] })
  stderr?.destroy()
  yield* ask(external, "GET /status", storage.token).pipe(
    Effect.catch(() => Effect.succeed({ body: "" })),
    Effect.tap(() => Effect.sleep("20 millis")),
    Effect.repeat({ until: ({ body }) => body.includes('"status":"running"') }),
    within("60 seconds", "the node did not get to run")
  )
  return { process, external, document: yield* Effect.orDie(Schema.decodeUnknownEffect(Document)(config)) }
})

const bench = Effect.gen(function* () {
  const { databases, json, seconds } = yield* readOptions
  const directory = yield* temporaryDirectory
  const storage = yield* emulator(join(directory, "storage"), join(directory, "cache"))
  const described = machine(directory, storage.version)
  yield* Console.log(`${described}\n${seconds} s each`)
  const figures = new Figures()
  const load = yield* loader
  const node = yield* runningNode(storage, directory)
  const target = { port: node.external, token: storage.token }
  const status = { ...target, path: "/status" }

  const mib = () => memory(node.process, "VmRSS")
  const before = mib()
  yield* load.run({ ...status, connections: 16, requests: 10_000 })
  const after10k = mib()
  yield* load.run({ ...status, connections: 16, requests: 90_000 })
  const after100k = mib()
  figures.add("memory", "RSS before", "MiB", before)
  figures.add("memory", "RSS after 10,000 requests", "MiB", after10k)
  figures.add("memory", "RSS after 100,000 requests", "MiB", after100k)
  figures.add("memory", "growth between them", "MiB", after100k - after10k, aims.growth)

  for (const path of paths) {
    yield* load.run({ ...target, path, connections: 16, seconds: warmUpSeconds })
    for (const count of connections) {
      const report = yield* load.run({ ...target, path, connections: count, seconds })
      const isStatus = path === "/status"
      const label = `${count} connections`
      const aim = isStatus ? aims.rate.get(count) : undefined
      figures.add(path, label, "1/s", report.requests / report.seconds, aim)
      figures.add(path, `${label}, p50`, "ms", report.p50)
      figures.add(path, `${label}, p99`, "ms", report.p99, isStatus ? aims.p99.get(count) : undefined)
    }
  }

  const group = `/status, ${applyRate} a second, while ${databases} databases are made`
  const asked = yield* Effect.forkScoped(load.run({ ...status, connections: 16, rate: applyRate }))
  const began = performance.now()
  const configured = yield* ask(
    node.external,
    "POST /configure",
    storage.token,
    withDatabases(node.document, databases)
  ).pipe(within(applyLimit, "the databases were not made"))
  const millis = performance.now() - began
  if (configured.status !== 200) return yield* fail(`/configure answers ${configured.status}: ${configured.body}`)
  yield* load.stop
  const report = yield* Fiber.join(asked)
  figures.add(group, "the apply", "ms", millis)
  figures.add(group, "p50", "ms", report.p50)
  figures.add(group, "p99", "ms", report.p99, aims.p99WhileApplying)
  figures.add(group, "longest", "ms", report.max)

  yield* node.process.signal("SIGTERM")
  yield* cleanExit(node.process.exited)
  yield* publish(figures, { machine: described }, json)
})

runBench("http", bench)
