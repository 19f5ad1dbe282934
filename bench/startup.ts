/**
 * How fast a node starts and stops, against the floor: `gzip -dc | tar x` of the same base backup and a bare `postgres`
 * on the same files, by the same user, with the same settings.
 *
 *     npm run bench:startup -- [--rounds N] [--sizes MB,MB] [--json FILE]
 *
 * `bin/compute_ctl` runs against the emulated storage, which is a process of its own. Size 40 is a fresh cluster; a
 * larger one is that plus a table of about so many MB. Rounds of ours and of the floor take turns; medians are printed
 * with the least and the most. Works in the temporary directory (TMPDIR), which is cleaned up, also after Ctrl-C.
 */
import { execFile } from "node:child_process"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs, promisify } from "node:util"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { localAdmin } from "../src/domain/ConnString.ts"
import * as Owner from "../src/layers/Owner.ts"
import * as PgWire from "../src/layers/PgWire.ts"
import { type StageName, stages } from "../src/programs/startup/stages.ts"
import { emptyStart, type Running, running, type Source } from "./support/compute.ts"
import { type Emulator, emulator } from "./support/emulator.ts"
import { Figures } from "./support/figures.ts"
import { floor } from "./support/floor.ts"
import { machine } from "./support/machine.ts"
import { publish, runBench } from "./support/main.ts"
import { BenchFailed, fail } from "./support/processes.ts"

/** MB of a fresh cluster, about. */
const freshSize = 40
/** Bytes that a row of the filler takes, about. */
const fillerRowBytes = 150
const emptyStartsPerRound = 3
const settleTime = "3 seconds"

/** What start and stop shall stay below. The ratios are those of spec → running to untar + postgres. */
const aims = { firstAnswer: 80, terminate: 100, steadyMib: 80, ratioFresh: 0.67, ratioLarge: 0.48 }

interface Options {
  readonly rounds: number
  readonly sizes: ReadonlyArray<number>
  readonly json: string | undefined
}

const readOptions = Effect.try({
  try: (): Options => {
    const { values } = parseArgs({
      options: {
        rounds: { type: "string", default: "5" },
        sizes: { type: "string", default: "40,300" },
        json: { type: "string" }
      }
    })
    const whole = (name: string, text: string): number => {
      if (!/^[1-9][0-9]{0,5}$/u.test(text)) throw new Error(`--${name}: ${text} is not a positive whole number`)
      return Number(text)
    }
    return {
      rounds: whole("rounds", values.rounds),
      sizes: values.sizes.split(",").map((text) => whole("sizes", text)),
      json: values.json
    }
  },
  catch: (cause) => new BenchFailed({ message: cause instanceof Error ? cause.message : String(cause) })
})

const makeDirectory = async (parent: string, name: string): Promise<string> => {
  const path = await fs.mkdtemp(join(parent, name))
  await fs.chmod(path, 0o755) // whoever runs Postgres passes through it
  return path
}

const temporaryDirectory = (parent: string, name: string) =>
  Effect.acquireRelease(
    Effect.promise(() => makeDirectory(parent, name)),
    (path) => Effect.promise(() => fs.rm(path, { recursive: true, force: true }))
  )

/** Files of at least that many bytes are emptied after a run. */
const largeFile = 1024 * 1024

/** Empties large files. Links are not followed: PGDATA has one to /dev/shm. */
const emptyLargeFiles = async (directory: string): Promise<void> => {
  for (const entry of await fs.readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) await emptyLargeFiles(path)
    else if (entry.isFile() && (await fs.lstat(path)).size >= largeFile) await fs.truncate(path)
  }
}

/**
 * A directory for one run. It stays until the end, only its large files are emptied: ext4 does not use an inode again for
 * some minutes and passes over the freed ones each time it makes a file, which triples the time of the next run.
 */
const runDirectory = (parent: string) =>
  Effect.acquireRelease(
    Effect.promise(() => makeDirectory(parent, "run-")),
    (path) => Effect.promise(() => emptyLargeFiles(path))
  )

/** A storage whose base backup has the size. */
interface Bed {
  readonly size: number
  readonly label: string
  readonly directory: string
  readonly storage: Emulator
  /** The base backup where whoever runs Postgres can read it, and the settings that compute_ctl makes for it. */
  readonly archive: string
  readonly conf: string
  readonly user: Owner.User | undefined
}

/** What is still on its way to the disk must not slow down the next run. */
const settleDisk = Effect.promise(() => promisify(execFile)("sync"))

/** A node in a new directory. */
const withNode = <A, E, R>(
  at: Pick<Bed, "directory" | "storage">,
  postgres: "postgres" | "stub",
  use: (node: Running) => Effect.Effect<A, E, R>
) =>
  Effect.gen(function* () {
    const directory = yield* runDirectory(at.directory)
    yield* settleDisk
    const node = yield* running({
      emulator: at.storage,
      directory,
      pgdata: join(directory, "pgdata"),
      postgres: at.storage[postgres]
    })
    return yield* use(node)
  }).pipe(Effect.scoped)

/** Grows the cluster of a fresh storage, as a user would: by SQL, then a clean stop that publishes the new image. */
const fill = (at: Pick<Bed, "directory" | "storage">, size: number) =>
  withNode(at, "stub", (node) =>
    Effect.gen(function* () {
      const rows = Math.floor((size * 1024 * 1024) / fillerRowBytes)
      const session = yield* PgWire.connect({
        target: localAdmin(node.port)
      })
      yield* session.query(
        `create table filler as select g, md5(g::text) a, md5((g+1)::text) b, md5((g*7)::text) c from generate_series(1,${rows}) g`
      )
      yield* session.query("checkpoint")
      yield* node.end("publish")
      yield* node.stop
    }).pipe(Effect.scoped)
  )

/** Makes the storage, the archive and the settings for one size. */
const bed = (directory: string, size: number, user: Owner.User | undefined) =>
  Effect.gen(function* () {
    const storage = yield* emulator(join(directory, `storage-${size}`), join(directory, "cache"))
    const at = { directory, storage }
    if (size > freshSize) yield* fill(at, size)
    const { archive, conf } = yield* withNode(at, "postgres", (node) =>
      Effect.gen(function* () {
        const served = yield* storage.document(node.port)
        const archive = join(directory, `base-${size}.tar.gz`)
        yield* Effect.promise(async () => {
          await fs.copyFile(served.archive, archive)
          await fs.chmod(archive, 0o644)
        })
        const conf = yield* Effect.promise(() => fs.readFile(join(node.pgdata, "postgresql.conf"), "utf8"))
        yield* node.stop
        return { archive, conf }
      })
    )
    const made: Bed = { size, label: `base backup of ${size} MB`, directory, storage, archive, conf, user }
    return made
  })

const measureEmpty = (figures: Figures, { directory, storage }: Bed, source: Source) =>
  Effect.gen(function* () {
    const path = yield* runDirectory(directory)
    const { mib, millis } = yield* emptyStart(storage, path, source)
    const aim = source === "control plane" ? aims.firstAnswer : undefined
    figures.add("empty start", `process start → first HTTP answer (${source})`, "ms", millis, aim)
    figures.add("empty start", "RSS", "MiB", mib)
  }).pipe(Effect.scoped)

/** What others are made of. `sync_safekeepers` shows only where the safekeepers were too late for the quorum. */
const outerStages: ReadonlySet<string> = new Set<StageName>(["start_compute", "prepare_pgdata"])
const stageOrder = Object.keys(stages).filter((stage) => !outerStages.has(stage))

const addStart = (
  figures: Figures,
  { label }: Bed,
  { metrics, peakMib, process, runningAt, stageMillis }: Running
): void => {
  figures.add(label, "process start → running", "ms", runningAt - process.started)
  figures.add(label, "spec → running (total_startup_ms)", "ms", metrics.total_startup_ms)
  for (const stage of stageOrder) {
    const millis = stageMillis.get(stage)
    if (millis !== undefined) figures.add(label, `  ${stage}`, "ms", millis)
  }
  figures.add(label, "bytes received (compressed)", "bytes", metrics.basebackup_bytes)
  figures.add(label, "peak RSS while starting", "MiB", peakMib)
}

/** A start whose end is the quorum's; returns spec → running. */
const measureTerminate = (figures: Figures, at: Bed) =>
  withNode(at, "postgres", (node) =>
    Effect.gen(function* () {
      addStart(figures, at, node)
      yield* Effect.sleep(settleTime)
      figures.add(at.label, "RSS 3 s after", "MiB", node.mib(), aims.steadyMib)
      yield* node.end("agree")
      const { answer, exit } = yield* node.terminate
      figures.add(at.label, "terminate → answer, safekeepers agree", "ms", answer)
      figures.add(at.label, "terminate → exit, safekeepers agree", "ms", exit, aims.terminate)
      return node.metrics.total_startup_ms
    })
  )

const measureSignal = (figures: Figures, at: Bed) =>
  withNode(at, "postgres", (node) =>
    Effect.gen(function* () {
      addStart(figures, at, node)
      yield* node.end("agree")
      figures.add(at.label, "SIGTERM → exit, safekeepers agree", "ms", yield* node.stop)
      return node.metrics.total_startup_ms
    })
  )

/** The slow path of the end. The start goes through the stand-in for postgres and does not count. */
const measureSync = (figures: Figures, at: Bed) =>
  withNode(at, "stub", (node) =>
    Effect.gen(function* () {
      yield* node.end("stub")
      const { answer, exit } = yield* node.terminate
      figures.add(at.label, "terminate → answer, --sync-safekeepers", "ms", answer)
      figures.add(at.label, "terminate → exit, --sync-safekeepers", "ms", exit)
    })
  )

/** Returns untar + postgres. */
const measureFloor = (figures: Figures, at: Bed) =>
  Effect.gen(function* () {
    const directory = yield* runDirectory(at.directory)
    yield* settleDisk
    const { postgres, stop, untar } = yield* floor({
      archive: at.archive,
      pgdata: join(directory, "pgdata"),
      postgres: at.storage.postgres,
      conf: at.conf,
      user: at.user
    })
    figures.add(at.label, "floor: gzip -dc | tar x", "ms", untar)
    figures.add(at.label, "floor: postgres until ready", "ms", postgres)
    figures.add(at.label, "floor: postgres, fast shutdown", "ms", stop)
    return untar + postgres
  }).pipe(Effect.scoped)

/** Ours and the floor side by side; who is first changes from round to round. */
const measurePair = (
  figures: Figures,
  at: Bed,
  floorFirst: boolean,
  ours: typeof measureSignal | typeof measureTerminate
) =>
  Effect.gen(function* () {
    const before = floorFirst ? yield* measureFloor(figures, at) : undefined
    const start = yield* ours(figures, at)
    const least = before ?? (yield* measureFloor(figures, at))
    const aim = at.size > freshSize ? aims.ratioLarge : aims.ratioFresh
    figures.add(at.label, "spec → running / (untar + postgres)", "ratio", start / least, aim)
  })

const bench = Effect.gen(function* () {
  const { json, rounds, sizes } = yield* readOptions
  const user = yield* Owner.resolve(undefined)
  const directory = yield* temporaryDirectory(tmpdir(), "bench-startup-")
  const beds = yield* Effect.forEach([...new Set(sizes)], (size) => bed(directory, size, user))
  const [first] = beds
  if (first === undefined) return yield* fail("--sizes names none")
  const described = machine(directory, first.storage.version)
  yield* Console.log(`${described}\n${rounds === 1 ? "1 round" : `${rounds} rounds`}, median (least–most)`)
  const figures = new Figures()
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < emptyStartsPerRound; i++) {
      yield* measureEmpty(figures, first, "control plane")
      yield* measureEmpty(figures, first, "file")
    }
    for (const at of beds) {
      yield* measurePair(figures, at, round % 2 === 0, measureTerminate)
      yield* measurePair(figures, at, round % 2 === 1, measureSignal)
      yield* measureSync(figures, at)
    }
  }
  yield* publish(figures, { machine: described, rounds }, json)
})

runBench("startup", bench)
