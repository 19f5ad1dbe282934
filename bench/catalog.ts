/**
 * What roles and databases cost: an apply of the same document for the first time, again, and with one thing changed,
 * against a script of the same SQL on a cluster of the same kind.
 *
 *     npm run bench:catalog -- [--sizes N,N] [--rounds N] [--json FILE]
 *
 * A size is a number of roles and as many databases; each database takes about 16 MB of the temporary directory (TMPDIR) in
 * each round, until the end, when it is cleaned up, also after Ctrl-C. Postgres has the settings of the local mode. Who is
 * first, ours or the script, changes from round to round; medians are printed with the least and the most.
 */
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Owner from "../src/layers/Owner.ts"
import * as PostgresInstall from "../src/local/PostgresInstall.ts"
import { freePort } from "../test/support/ports.ts"
import { CatalogFigure } from "./support/catalogFigures.ts"
import { Figures } from "./support/figures.ts"
import { machine } from "./support/machine.ts"
import { publish, runBench } from "./support/main.ts"
import { BenchFailed, fail, start } from "./support/processes.ts"

/** What an apply shall stay below. */
const aims: Readonly<Record<number, { readonly unchanged?: number; readonly ratio?: number }>> = {
  100: { ratio: 0.7 },
  500: { unchanged: 30 },
  2000: { unchanged: 100 }
}

const readOptions = Effect.try({
  try: () => {
    const { values } = parseArgs({
      options: {
        sizes: { type: "string", default: "0,100,500,2000" },
        rounds: { type: "string", default: "1" },
        json: { type: "string" }
      }
    })
    const whole = (name: string, text: string): number => {
      if (!/^(?:0|[1-9][0-9]{0,4})$/u.test(text)) throw new Error(`--${name}: ${text} is not a whole number`)
      return Number(text)
    }
    return {
      sizes: [...new Set(values.sizes.split(",").map((text) => whole("sizes", text)))],
      rounds: whole("rounds", values.rounds),
      json: values.json
    }
  },
  catch: (cause) => new BenchFailed({ message: cause instanceof Error ? cause.message : String(cause) })
})

const decode = Schema.decodeUnknownEffect(CatalogFigure)

const unchanged: ReadonlySet<string> = new Set(["unchanged", "unchanged after that", "restart, unchanged"])

const add = (figures: Figures, size: number, figure: CatalogFigure): void => {
  const group = `${size} roles and ${size} databases`
  const { label } = figure
  figures.add(group, label, "ms", figure.millis, unchanged.has(label) ? aims[size]?.unchanged : undefined)
  if (figure.decodeMillis > 0) figures.add(group, "  of these: document read", "ms", figure.decodeMillis)
  figures.add(group, `  ${label}: transactions`, "", figure.transactions)
  figures.add(group, `  ${label}: statements`, "", figure.statements)
  figures.add(group, `  ${label}: round trips`, "", figure.roundTrips)
  figures.add(group, `  ${label}: connections`, "", figure.connections)
  figures.add(group, `  ${label}: connections at once`, "", figure.peakConnections)
  if (figure.peakMib !== undefined) figures.add(group, `  ${label}: peak RSS`, "MiB", figure.peakMib)
}

const makeDirectory = async (parent: string): Promise<string> => {
  const path = await fs.mkdtemp(join(parent, "bench-catalog-"))
  await fs.chmod(path, 0o755) // whoever runs Postgres passes through it
  return path
}

/** One size in a process of its own. */
const runSize = (figures: Figures, parent: string, size: number, begins: "floor" | "ours") =>
  Effect.gen(function* () {
    const directory = yield* Effect.promise(() => makeDirectory(parent))
    const port = yield* Effect.promise(freePort)
    const process = yield* start(
      globalThis.process.execPath,
      [join(import.meta.dirname, "support/catalogRun.ts"), String(size), directory, String(port), begins],
      { stdio: ["ignore", "ignore", "inherit", "ipc"] },
      [["SIGTERM", "90 seconds"]]
    )
    const messages = yield* Queue.unbounded<unknown>()
    process.child.on("message", (message) => Queue.offerUnsafe(messages, message))
    const { code, signal } = yield* process.exited
    if (code !== 0) return yield* fail(`the run of ${size} ended with ${signal ?? `code ${code}`}`)
    const received = yield* Effect.forEach(yield* Queue.takeAll(messages), (message) => decode(message))
    for (const figure of received) add(figures, size, figure)
    const millis = (label: string) => received.find((figure) => figure.label === label)?.millis
    const [first, least] = [millis("first apply"), millis("floor: script of the same SQL")]
    if (first === undefined || least === undefined) return
    const group = `${size} roles and ${size} databases`
    figures.add(group, "first apply / floor", "ratio", first / least, aims[size]?.ratio)
    figures.add(group, "first apply, for each role and database", "ms", first / size)
  }).pipe(Effect.scoped)

const bench = Effect.gen(function* () {
  const { json, rounds, sizes } = yield* readOptions
  const user = yield* Owner.resolve(undefined)
  const cacheDir = PostgresInstall.defaultCacheDir(user)
  const { version } = yield* PostgresInstall.find({ major: PostgresInstall.bundledMajor, user, cacheDir })
  const directory = yield* Effect.acquireRelease(
    Effect.promise(() => makeDirectory(tmpdir())),
    (path) => Effect.promise(() => fs.rm(path, { recursive: true, force: true, maxRetries: 3 }))
  )
  const described = machine(directory, version)
  yield* Console.log(described)
  const figures = new Figures()
  for (let round = 0; round < rounds; round++) {
    for (const size of sizes) yield* runSize(figures, directory, size, round % 2 === 0 ? "ours" : "floor")
  }
  yield* publish(figures, { machine: described, rounds }, json)
})

runBench("catalog", bench)
