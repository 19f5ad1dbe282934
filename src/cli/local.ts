/**
 * `compute_ctl local`: storage, control plane and one compute in this process, on loopback.
 *
 * The compute takes the same way from spec to Postgres as in production. What it logs goes to a file in the data
 * directory; the terminal shows the stages, how to connect, and how to stop.
 */
import { createWriteStream } from "node:fs"
import { mkdir, writeFile } from "node:fs/promises"
import { homedir } from "node:os"
import { dirname, join } from "node:path"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Boot } from "../domain/Boot.ts"
import type { ComputeParams } from "../domain/ComputeParams.ts"
import { describe } from "../domain/describe.ts"
import type { LocalParams } from "../domain/LocalParams.ts"
import * as Logging from "../layers/Logging.ts"
import * as Owner from "../layers/Owner.ts"
import * as LocalStorage from "../local/LocalStorage.ts"
import { bundledMajor } from "../local/PostgresInstall.ts"
import { compute } from "./compute.ts"
import { show } from "./progress.ts"

const computeId = "local"

/** The data directory cannot be made. */
class NoDataDir extends Data.TaggedError("NoDataDir")<{ readonly message: string; readonly cause: unknown }> {}

/** Where the databases live: root's home cannot be entered by the user that runs Postgres. */
const defaultDataDir = (isRoot: boolean, environment: LocalParams["environment"]): string =>
  isRoot
    ? "/var/lib/compute-ctl/local"
    : join(environment["XDG_DATA_HOME"] ?? join(homedir(), ".local", "share"), "compute-ctl", "local")

const write = (text: string): void => void process.stdout.write(`${text}\n`)

const nodeParams = (
  params: LocalParams,
  storage: LocalStorage.LocalStorage["Service"],
  dataDir: string
): ComputeParams => ({
  computeId,
  pgdata: join(dataDir, "pgdata"),
  connstr: connstr(params),
  postgres: {
    host: "127.0.0.1",
    port: params.port,
    user: "cloud_admin",
    database: "postgres",
    password: undefined,
    options: undefined
  },
  pgbin: storage.stub.postgres,
  source: { _tag: "ControlPlane", uri: storage.controlPlane.url, token: storage.controlPlane.token },
  externalHttpPort: params.externalHttpPort,
  internalHttpPort: params.internalHttpPort,
  externalHttpHost: "127.0.0.1",
  internalHttpHost: "127.0.0.1",
  privilegedRoleName: "neon_superuser",
  runAs: params.runAs,
  remoteExtBaseUrl: undefined,
  cgroup: "neon-postgres",
  filecacheConnstr: "",
  vmMonitorAddr: "127.0.0.1:0",
  resizeSwapOnBind: false,
  setDiskQuotaForFs: undefined,
  installedExtensionsCollectionInterval: 3600,
  dev: true,
  pgInitTimeout: undefined,
  reconcile: "incremental",
  lakebaseMode: false,
  instanceId: undefined,
  buildTag: params.buildTag,
  autoscaling: false,
  environment: params.environment,
  basebackupRetries: 2,
  failpoints: undefined
})

const connstr = (params: LocalParams): string => `postgresql://cloud_admin@127.0.0.1:${params.port}/postgres`

/** Options by which the commands find this node; none where it listens on the usual ports. */
const addresses = ({ externalHttpPort, internalHttpPort }: LocalParams): string =>
  [
    externalHttpPort === 3080 ? "" : ` --url http://127.0.0.1:${externalHttpPort}`,
    internalHttpPort === 3081 ? "" : ` --internal-url http://127.0.0.1:${internalHttpPort}`
  ].join("")

const welcome = (params: LocalParams, tokenFile: string): string =>
  [
    "",
    `  Postgres   ${connstr(params)}`,
    `  API        http://127.0.0.1:${params.externalHttpPort}`,
    `             curl -H "Authorization: Bearer $(cat ${tokenFile})" http://127.0.0.1:${params.externalHttpPort}/status`,
    `  Commands   COMPUTE_CTL_TOKEN=$(cat ${tokenFile}) bin/compute_ctl status${addresses(params)}`,
    "             also timeline, reconcile, configure, refresh, terminate, metrics",
    "  Stop       Ctrl-C (the data are kept for the next start)",
    ""
  ].join("\n")

/** Logs go to a file, unless somebody asked to see them. */
const openLog = (path: string, boot: Boot) =>
  boot.rustLog === undefined
    ? Effect.acquireRelease(
        Effect.sync(() => {
          const file = createWriteStream(path, { flags: "w", mode: 0o600 })
          file.on("error", () => {})
          Logging.redirect(file)
          return file
        }),
        (file) => Effect.promise(() => new Promise<void>((done) => void file.end(() => done())))
      )
    : Effect.void

const storageOptions = (params: LocalParams, dataDir: string, user: Owner.User | undefined) => {
  const postgres = params.postgres
  return {
    dataDir,
    user,
    postgres:
      postgres._tag === "Binary"
        ? ({ _tag: "Bindir", bindir: dirname(postgres.pgbin) } as const)
        : ({ _tag: "Bundled", major: postgres._tag === "Version" ? postgres.major : bundledMajor } as const)
  }
}

const local = (params: LocalParams, boot: Boot) =>
  Effect.gen(function* () {
    const user = yield* Owner.resolve(params.runAs)
    const dataDir = params.dataDir ?? defaultDataDir(user !== undefined, params.environment)
    const logFile = join(dataDir, "compute_ctl.log")
    const tokenFile = join(dataDir, "compute.token")
    yield* Effect.tryPromise({
      try: () => mkdir(dataDir, { recursive: true, mode: 0o755 }),
      catch: (cause) => new NoDataDir({ message: `cannot make the data directory ${dataDir}`, cause })
    })
    yield* openLog(logFile, boot)
    const storage = yield* LocalStorage.make(storageOptions(params, dataDir, user))
    const token = yield* storage.keys.computeToken(computeId)
    yield* Effect.promise(() => writeFile(tokenFile, Redacted.value(token), { mode: 0o600 }))
    storage.controlPlane.attach(computeId, yield* storage.documentFor({ port: params.port }))
    write(`PostgreSQL ${storage.install.version}, data in ${dataDir}, log in ${logFile}\n`)
    const code = yield* compute(nodeParams(params, storage, dataDir), boot, (node) =>
      show(node.changes, write, () => welcome(params, tokenFile))
    )
    if (code === 0) write("stopped, the data are kept")
    return code
  })

/** Runs local mode to its end; the value is the exit code. */
export const main = (params: LocalParams, boot: Boot): Effect.Effect<number> =>
  local(params, boot).pipe(
    Effect.scoped,
    Effect.catch((error) =>
      Effect.sync(() => {
        process.stderr.write(`compute_ctl local: ${describe(error)}\n`)
        return 1
      })
    ),
    Effect.provide(Logging.layer({ rustLog: boot.rustLog }))
  )
