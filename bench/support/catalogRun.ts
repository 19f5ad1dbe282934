/**
 * Child process of the benchmark of the catalogs: one size, from an empty cluster to the end.
 *
 *     node catalogRun.ts SIZE DIRECTORY PORT floor|ours
 *
 * The programs of the node run here with a Postgres of their own, so that what this process takes is what they take. Each
 * figure is sent to the parent when it is known. The last word says who is first, ours or the floor.
 */
import { execFile } from "node:child_process"
import { createWriteStream, readFileSync, writeFileSync } from "node:fs"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import { decodeComputeConfig, parseJson } from "../../src/domain/ComputeConfig.ts"
import type { ComputeParams } from "../../src/domain/ComputeParams.ts"
import * as ComputeState from "../../src/domain/ComputeState.ts"
import { localAdmin } from "../../src/domain/ConnString.ts"
import { lastMigration } from "../../src/domain/catalog/migrations.ts"
import * as ParsedSpec from "../../src/domain/ParsedSpec.ts"
import { ComputeNode } from "../../src/layers/ComputeNode.ts"
import { DataDirectory } from "../../src/layers/DataDirectory.ts"
import * as Logging from "../../src/layers/Logging.ts"
import { Metrics } from "../../src/layers/Metrics.ts"
import * as Owner from "../../src/layers/Owner.ts"
import { Params } from "../../src/layers/Params.ts"
import { Postgres } from "../../src/layers/Postgres.ts"
import { Sql } from "../../src/layers/Sql.ts"
import { postgresqlConf } from "../../src/local/LocalStorage.ts"
import * as PostgresInstall from "../../src/local/PostgresInstall.ts"
import { configureAsPrimary } from "../../src/programs/catalog/configure.ts"
import { reconfigure } from "../../src/programs/reconfigure/reconfigure.ts"
import { renderConf } from "../../src/programs/renderConf.ts"
import { countedSql, restart, sqlCount } from "../../test/support/countedSql.ts"
import { nodeParams } from "../../test/support/params.ts"
import { type Change, documentOf, scriptOf } from "./catalogDocument.ts"
import type { CatalogFigure } from "./catalogFigures.ts"

const [, , sizeText = "", directory = "", portText = "", first] = process.argv
const size = Number(sizeText)
const port = Number(portText)
const unchangedRounds = 5

const send = (figure: CatalogFigure): Effect.Effect<void> =>
  Effect.callback((resume) => {
    process.send?.(figure, undefined, undefined, () => resume(Effect.void))
  })

/** The document as a request brings it: text, read anew each time. */
const read = (text: string): ParsedSpec.ParsedSpec => {
  const { spec } = Result.getOrThrow(Result.flatMap(parseJson(text), decodeComputeConfig))
  if (spec === undefined || spec === null) throw new Error("the document of the benchmark has no spec")
  return Result.getOrThrow(ParsedSpec.parse(spec))
}

const textOf = (change: Change): string => JSON.stringify(documentOf(size, postgresqlConf(port), change))

/** The most memory so far is forgotten. */
const forgetPeak = Effect.sync(() => writeFileSync("/proc/self/clear_refs", "5"))
const peakMib = (): number => Number(/^VmHWM:\s+(\d+) kB/mu.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) / 1024

const count = sqlCount()

/** Transactions of all databases so far. Sessions tell theirs when they end. */
const transactions = Effect.gen(function* () {
  const sql = yield* Sql
  yield* Effect.sleep("300 millis")
  const session = yield* sql.connect({ use: "collect_insights" })
  const [set] = yield* session.query("SELECT sum(xact_commit + xact_rollback) FROM pg_catalog.pg_stat_database")
  return Number(set?.rows[0]?.[0])
}).pipe(Effect.scoped)

/** Runs work, and tells what it took. */
const measure = <E, R>(label: string, text: string, work: (spec: ParsedSpec.ParsedSpec) => Effect.Effect<void, E, R>) =>
  Effect.gen(function* () {
    const before = yield* transactions
    yield* forgetPeak
    restart(count)
    const began = performance.now()
    const spec = read(text)
    const decoded = performance.now()
    yield* work(spec)
    const ended = performance.now()
    const { messages, most, opened, statements } = count
    const peak = peakMib()
    const own = 1 // the transaction that reads the number
    yield* send({
      label,
      millis: ended - began,
      decodeMillis: decoded - began,
      transactions: (yield* transactions) - before - own,
      roundTrips: messages,
      statements,
      connections: opened,
      peakConnections: most,
      peakMib: peak
    })
  })

const start = (spec: ParsedSpec.ParsedSpec) =>
  Effect.gen(function* () {
    const postgres = yield* Postgres
    const directory = yield* DataDirectory
    yield* directory.writeConf(yield* renderConf(spec))
    const loaded = yield* directory.loading
    yield* postgres.start({ token: undefined, env: {} })
    yield* loaded
    return yield* hooks
  })

const hooks = Effect.gen(function* () {
  const postgres = yield* Postgres
  const metrics = yield* Metrics
  return {
    reload: postgres.reload,
    pendingRestart: () => Effect.void,
    migrationFailed: metrics.migrationFailed,
    statementTimedOut: metrics.statementTimedOut,
    applied: () => Effect.void
  }
})

const migrated = Effect.gen(function* () {
  const sql = yield* Sql
  const session = yield* sql.connect({ use: "migrations" })
  const [set] = yield* session.query("SELECT id FROM neon_migration.migration_id")
  if (Number(set?.rows[0]?.[0]) < lastMigration) return yield* Effect.fail("not yet")
}).pipe(Effect.scoped, Effect.retry(Schedule.spaced("20 millis")), Effect.timeout("30 seconds"))

/** First life of the cluster: everything but the restart. */
const firstLife = Effect.gen(function* () {
  const empty = JSON.stringify(documentOf(0, postgresqlConf(port), "none"))
  const given = yield* start(read(empty))
  yield* configureAsPrimary(read(empty), "start", given)
  yield* migrated
  const again = (spec: ParsedSpec.ParsedSpec) => reconfigure(spec, false)
  yield* measure("first apply", textOf("none"), again)
  for (let round = 0; round < unchangedRounds; round++) yield* measure("unchanged", textOf("none"), again)
  if (size > 0) {
    yield* measure("one password changed", textOf("password"), again)
    yield* measure("one database renamed", textOf("rename"), again)
    yield* measure("unchanged after that", textOf("rename"), again)
  }
}).pipe(Effect.scoped)

const secondLife = Effect.gen(function* () {
  const text = textOf(size > 0 ? "rename" : "none")
  const given = yield* start(read(text))
  yield* measure("restart, unchanged", text, (spec) => configureAsPrimary(spec, "start", given))
}).pipe(Effect.scoped)

/** The same SQL, statement by statement, as a script of psql sends it. */
const floor = Effect.gen(function* () {
  yield* start(read(JSON.stringify(documentOf(0, postgresqlConf(port), "none"))))
  const sql = yield* Sql
  restart(count)
  const before = yield* transactions
  const began = performance.now()
  for (const { database, statements } of scriptOf(size)) {
    yield* Effect.scoped(
      Effect.gen(function* () {
        const session = yield* sql.connect({ use: "apply_config", database })
        for (const statement of statements) yield* session.query(statement)
      })
    )
  }
  const millis = performance.now() - began
  yield* send({
    label: "floor: script of the same SQL",
    millis,
    decodeMillis: 0,
    transactions: (yield* transactions) - before - 1,
    roundTrips: count.messages,
    statements: count.statements,
    connections: count.opened,
    peakConnections: count.most,
    peakMib: undefined
  })
}).pipe(Effect.scoped)

/** What is still on its way to the disk must not slow down what comes next. */
const settleDisk = Effect.promise(() => promisify(execFile)("sync"))

const initdb = (pgdata: string, bindir: string, user: Owner.User | undefined) =>
  Effect.promise(async () => {
    await fs.mkdir(pgdata, { mode: 0o700 })
    if (user !== undefined) await fs.chown(pgdata, user.uid, user.gid)
    const as = user === undefined ? {} : { uid: user.uid, gid: user.gid }
    await promisify(execFile)(
      join(bindir, "initdb"),
      ["-D", pgdata, "--username=cloud_admin", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", "--no-sync"],
      { cwd: "/", env: { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8" }, ...as }
    )
  })

const main = Effect.gen(function* () {
  const user = yield* Owner.resolve(undefined)
  const install = yield* PostgresInstall.find({
    major: PostgresInstall.bundledMajor,
    user,
    cacheDir: PostgresInstall.defaultCacheDir(user)
  })
  const postgres: ComputeParams["postgres"] = localAdmin(port)
  const services = (pgdata: string) =>
    Layer.mergeAll(
      DataDirectory.layer,
      Postgres.layer,
      countedSql(postgres, count),
      Metrics.layer("bench"),
      ComputeNode.layer(ComputeState.initial(0, { keys: [] }))
    ).pipe(
      Layer.provideMerge(
        Layer.succeed(
          Params,
          nodeParams({
            pgdata,
            postgres,
            pgbin: join(install.bindir, "postgres"),
            environment: { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8" }
          })
        )
      ),
      Layer.provideMerge(Layer.succeed(Owner.Owner, Owner.Owner.of({ user })))
    )
  /** Each in a directory of its own: what is deleted makes ext4 slow for some minutes. */
  const inNewCluster = <E, R>(name: string, work: Effect.Effect<void, E, R>) =>
    Effect.gen(function* () {
      const pgdata = join(directory, name)
      yield* initdb(pgdata, install.bindir, user)
      yield* settleDisk
      yield* Effect.provide(work, services(pgdata))
    })
  const ours = inNewCluster("ours", Effect.andThen(firstLife, secondLife))
  const least = size === 0 ? Effect.void : inNewCluster("floor", floor)
  yield* first === "floor" ? Effect.andThen(least, ours) : Effect.andThen(ours, least)
}).pipe(Effect.provideService(References.MinimumLogLevel, "Error"))

Logging.redirect(createWriteStream("/dev/null")) // what Postgres says is not asked for
NodeRuntime.runMain(
  Effect.ensuring(
    main,
    Effect.sync(() => process.disconnect?.())
  )
)
