/**
 * A real PostgreSQL for a test file, with a stand-in for the extension `neon`.
 *
 * The extension goes into a tree of links around the binaries, because the package itself must not be changed.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { decodeComputeSpec } from "../../../src/domain/ComputeConfig.ts"
import type { ComputeSpec } from "../../../src/domain/ComputeSpec.ts"
import type { PostgresTarget } from "../../../src/domain/ConnString.ts"
import { type Desired, fromSpec } from "../../../src/domain/catalog/Desired.ts"
import type { Mode } from "../../../src/domain/catalog/plan.ts"
import { TenantId, TimelineId } from "../../../src/domain/Identifiers.ts"
import * as ParsedSpec from "../../../src/domain/ParsedSpec.ts"
import * as Owner from "../../../src/layers/Owner.ts"
import * as PgWire from "../../../src/layers/PgWire.ts"
import { Sql } from "../../../src/layers/Sql.ts"
import * as PostgresInstall from "../../../src/local/PostgresInstall.ts"
import { apply } from "../../../src/programs/catalog/apply.ts"

const cacheDir = join(tmpdir(), `compute-ctl-tests-${process.getuid?.() ?? 0}`)

export const timelineId = "0123456789abcdef0123456789abcdef"

const decodeTenant = Schema.decodeUnknownSync(TenantId)
const decodeTimeline = Schema.decodeUnknownSync(TimelineId)

export interface Document {
  readonly roles?: ReadonlyArray<unknown>
  readonly databases?: ReadonlyArray<unknown>
  readonly deltas?: ReadonlyArray<unknown>
  readonly more?: Readonly<Record<string, unknown>>
  readonly timelineId?: string
}

export const specOf = ({ databases = [], deltas = [], more = {}, roles = [] }: Document): ComputeSpec =>
  Result.getOrThrow(
    decodeComputeSpec({
      format_version: 1,
      suspend_timeout_seconds: -1,
      cluster: { roles, databases },
      delta_operations: deltas,
      ...more
    })
  )

/** A spec as the programs get it. */
export const parsedSpecOf = (document: Document): ParsedSpec.ParsedSpec =>
  Result.getOrThrow(
    ParsedSpec.parse({
      ...specOf(document),
      tenant_id: decodeTenant("f".repeat(32)),
      timeline_id: decodeTimeline(document.timelineId ?? timelineId),
      pageserver_connstring: "postgresql://localhost",
      safekeeper_connstrings: ["localhost:1"]
    })
  )

export const desiredOf = (document: Document, privilegedRole = "neon_superuser", lakebase = false): Desired =>
  Result.getOrThrow(
    fromSpec(specOf(document), {
      privilegedRole,
      lakebase,
      timelineId: document.timelineId ?? timelineId
    })
  )

const upgrades = ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6"]

/** Extension `neon` as far as SQL goes. */
const installNeon = async (folder: string) => {
  const control = "comment = 'stand-in'\ndefault_version = '1.6'\nrelocatable = true\ntrusted = true\n"
  await fs.writeFile(join(folder, "neon.control"), control)
  await fs.writeFile(
    join(folder, "neon--1.0.sql"),
    "CREATE FUNCTION get_prewarm_info() RETURNS pg_catalog.int4 LANGUAGE sql AS 'SELECT 1';\n"
  )
  for (const [index, version] of upgrades.slice(1).entries()) {
    await fs.writeFile(join(folder, `neon--${upgrades[index]}--${version}.sql`), "SELECT 1;\n")
  }
}

/** Extension `databricks_auth` in two versions, with no way from one to the other. */
const installDatabricksAuth = async (folder: string) => {
  await fs.writeFile(join(folder, "databricks_auth.control"), "default_version = '1.1'\nrelocatable = true\n")
  for (const version of ["1.0", "1.1"]) {
    await fs.writeFile(
      join(folder, `databricks_auth--${version}.sql`),
      "CREATE VIEW databricks_auth_metrics AS SELECT 1 AS metric;\n"
    )
  }
}

const linkAll = async (from: string, to: string) => {
  await fs.mkdir(to, { recursive: true })
  for (const name of await fs.readdir(from)) await fs.symlink(join(from, name), join(to, name))
}

/** The binaries of a package with the extension beside them; Postgres finds its files from its own path. */
const withNeon = async (bindir: string, target: string) => {
  const root = dirname(bindir)
  const share = join(target, "share/postgresql")
  await fs.mkdir(join(target, "bin"), { recursive: true })
  for (const name of ["postgres", "initdb"]) {
    await fs.copyFile(join(bindir, name), join(target, "bin", name), fs.constants.COPYFILE_FICLONE)
  }
  await fs.symlink(join(root, "lib"), join(target, "lib"))
  await linkAll(join(root, "share/postgresql"), share)
  await fs.rm(join(share, "extension"))
  await linkAll(join(root, "share/postgresql/extension"), join(share, "extension"))
  await installNeon(join(share, "extension"))
  await installDatabricksAuth(join(share, "extension"))
  return join(target, "bin")
}

const start = (options: { readonly neon: boolean; readonly conf?: string }) =>
  Effect.gen(function* () {
    const user = yield* Owner.resolve(undefined)
    const install = yield* PostgresInstall.find({ major: PostgresInstall.bundledMajor, user, cacheDir })
    const directory = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const path = await fs.mkdtemp(join(tmpdir(), "compute-catalog-"))
        await fs.chmod(path, 0o755)
        return path
      }),
      (path) => Effect.promise(() => fs.rm(path, { recursive: true, force: true, maxRetries: 3 }))
    )
    const pgdata = join(directory, "data")
    const as = user === undefined ? {} : { uid: user.uid, gid: user.gid }
    const env = { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8", TZ: "UTC" }
    const bindir = yield* Effect.promise(async () => {
      await fs.mkdir(pgdata, { mode: 0o700 })
      const bin = options.neon ? await withNeon(install.bindir, join(directory, "postgres")) : install.bindir
      for (const path of [directory, pgdata]) if (user !== undefined) await fs.chown(path, user.uid, user.gid)
      const locale = ["--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
      await promisify(execFile)(
        join(bin, "initdb"),
        ["-D", pgdata, "--username=cloud_admin", ...locale, "--auth=trust", "--no-sync", "--no-instructions"],
        { cwd: "/", env, ...as }
      )
      const conf = [
        "listen_addresses = ''",
        `unix_socket_directories = '${directory}'`,
        "fsync = off",
        "wal_level = logical",
        "max_connections = 40",
        "shared_buffers = 16MB",
        "include_if_exists = 'compute_ctl_temp_override.conf'",
        options.conf ?? ""
      ]
      await fs.appendFile(join(pgdata, "postgresql.conf"), `${conf.join("\n")}\n`)
      return bin
    })
    const postmaster = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(join(bindir, "postgres"), ["-D", pgdata], { cwd: "/", env, stdio: "ignore", ...as })),
      (child) => stopped(child)
    )
    const target: PostgresTarget = {
      host: directory,
      port: 5432,
      user: "cloud_admin",
      database: "postgres",
      password: undefined,
      options: undefined
    }
    yield* Effect.gen(function* () {
      while (true) {
        const tried = yield* Effect.result(Effect.scoped(PgWire.connect({ target })))
        if (Result.isSuccess(tried)) return
        yield* Effect.sleep("20 millis")
      }
    }).pipe(Effect.timeout("30 seconds"))
    return { target, pgdata, user, pid: postmaster.pid ?? 0 }
  })

const stopped = (child: ChildProcess) =>
  Effect.callback<void>((resume) => {
    child.once("exit", () => resume(Effect.void))
    if (!child.kill("SIGQUIT")) resume(Effect.void)
  })

export type Rows = ReadonlyArray<ReadonlyArray<string | null>>

export interface ApplyWish {
  readonly mode?: Mode
  readonly concurrency?: number
  readonly privilegedRole?: string
  readonly lakebase?: boolean
  readonly limits?: { readonly lock: Duration.Input; readonly statement: Duration.Input }
}

const make = (options: { readonly neon: boolean; readonly conf?: string }) =>
  Effect.gen(function* () {
    const server = yield* start(options)
    const { target } = server
    /** A statement in a session of its own; rows of the last one. */
    const sql = (text: string, database = "postgres", user = "cloud_admin") =>
      Effect.scoped(
        Effect.gen(function* () {
          const session = yield* PgWire.connect({ target: { ...target, database, user } })
          const sets = yield* session.query(text)
          const rows: Rows = sets.at(-1)?.rows ?? []
          return rows
        })
      )
    const sqlLayer = Sql.to(target)
    return {
      ...server,
      sql,
      /** First value of each row. */
      column: (text: string, database?: string, user?: string) =>
        Effect.map(sql(text, database, user), (rows) => rows.map(([value]) => value ?? null)),
      apply: (document: Document, wish: ApplyWish = {}) =>
        apply(desiredOf(document, wish.privilegedRole, wish.lakebase), {
          mode: wish.mode ?? "incremental",
          concurrency: wish.concurrency ?? 4,
          ...(wish.limits === undefined
            ? {}
            : {
                limits: {
                  lock: Duration.fromInputUnsafe(wish.limits.lock),
                  statement: Duration.fromInputUnsafe(wish.limits.statement)
                }
              })
        }).pipe(Effect.provide(sqlLayer)),
      provide: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.provide(self, sqlLayer)
    }
  })

/** What is tested here is seen in the catalogs, not in the log. */
const quiet = Layer.succeed(References.MinimumLogLevel, "None")

/** One server for a block of tests. */
export class Server extends Context.Service<Server, Effect.Success<ReturnType<typeof make>>>()(
  "test/programs/catalog/Server"
) {
  static readonly vanilla = Layer.merge(Layer.effect(Server, make({ neon: false })), quiet)
  static readonly withNeon = Layer.merge(Layer.effect(Server, make({ neon: true })), quiet)
}
