/**
 * `compute_ctl local`: storage, control plane and one compute in this process, on loopback.
 *
 * The compute takes the same way from spec to Postgres as in production. What it logs goes to a file in the data
 * directory; the terminal shows the stages, how to connect, and how to stop.
 */
import { randomBytes } from "node:crypto"
import { createWriteStream } from "node:fs"
import { mkdir, writeFile } from "node:fs/promises"
import { dirname, join, relative } from "node:path"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Boot } from "../domain/Boot.ts"
import type { ComputeParams } from "../domain/ComputeParams.ts"
import { localAdmin, type PostgresTarget } from "../domain/ConnString.ts"
import { describe } from "../domain/describe.ts"
import type { LocalParams } from "../domain/LocalParams.ts"
import * as Logging from "../layers/Logging.ts"
import * as Owner from "../layers/Owner.ts"
import * as controlFile from "../local/controlFile.ts"
import * as LocalStorage from "../local/LocalStorage.ts"
import * as moveTimeline from "../local/moveTimeline.ts"
import { bundledMajor } from "../local/PostgresInstall.ts"
import * as StorageController from "../local/StorageController.ts"
import { compute } from "./compute.ts"
import { dataDirOf } from "./localPlace.ts"
import * as ports from "./localPorts.ts"
import { show } from "./progress.ts"

const computeId = "local"

type Storage = LocalStorage.LocalStorage["Service"]

/** The data directory cannot be made. */
class NoDataDir extends Data.TaggedError("NoDataDir")<{ readonly message: string; readonly cause: unknown }> {}

const write = (text: string): void => void process.stdout.write(`${text}\n`)

const pgdataIn = (dataDir: string): string => join(dataDir, "pgdata")

const nodeParams = (params: LocalParams, storage: Storage, dataDir: string): ComputeParams => ({
  computeId,
  pgdata: pgdataIn(dataDir),
  connstr: connstr(params),
  postgres: target(params),
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

const target = ({ port }: LocalParams): PostgresTarget => localAdmin(port)

const connstr = (params: LocalParams): string => `postgresql://cloud_admin@127.0.0.1:${params.port}/postgres`

/** Options by which the commands find this node; none where it listens on the usual ports. */
const addresses = ({ externalHttpPort, internalHttpPort }: LocalParams): string =>
  [
    externalHttpPort === 3080 ? "" : ` --url http://127.0.0.1:${externalHttpPort}`,
    internalHttpPort === 3081 ? "" : ` --internal-url http://127.0.0.1:${internalHttpPort}`
  ].join("")

/** One line for each pageserver: where it is, which one has the timeline, and its counters. */
const pageservers = (storage: Storage): ReadonlyArray<string> =>
  storage.pageservers.map(({ address, id, metricsUrl }) => {
    const serves = storage.attached().id === id ? "has the timeline" : ""
    return `  ${id === 1 ? "Pageserver" : "".padEnd(10)} ${id}: ${address}  ${serves.padEnd(16)}  ${metricsUrl}`
  })

/** How to call this program from where it was started. */
const ownName = (): string => {
  const path = join(dirname(process.argv[1] ?? ""), "..", "bin", "compute_ctl")
  const short = relative(process.cwd(), path)
  return short.startsWith("..") ? path : short
}

const moveCommand = ({ dataDir }: LocalParams): string =>
  `${ownName()} local move${dataDir === undefined ? "" : ` --data-dir ${dataDir}`}`

const welcome = (params: LocalParams, tokenFile: string, storage: Storage): string =>
  [
    "",
    `  Postgres   ${connstr(params)}`,
    ...pageservers(storage),
    `  API        http://127.0.0.1:${params.externalHttpPort}`,
    `             curl -H "Authorization: Bearer $(cat ${tokenFile})" http://127.0.0.1:${params.externalHttpPort}/status`,
    `  Commands   COMPUTE_CTL_TOKEN=$(cat ${tokenFile}) ${ownName()} status${addresses(params)}`,
    "             also timeline, reconcile, configure, refresh, terminate, metrics",
    ...(params.pageservers > 1 ? [`  Move       ${moveCommand(params)} (to the next pageserver)`] : []),
    "  Stop       Ctrl-C (the data are kept for the next start)",
    ""
  ].join("\n")

const writeToken = (path: string, token: Redacted.Redacted<string>) =>
  Effect.promise(() => writeFile(path, Redacted.value(token), { mode: 0o600 }))

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
    pageservers: params.pageservers,
    postgres:
      postgres._tag === "Binary"
        ? ({ _tag: "Bindir", bindir: dirname(postgres.pgbin) } as const)
        : ({ _tag: "Bundled", major: postgres._tag === "Version" ? postgres.major : bundledMajor } as const)
  }
}

/** Other processes can ask for a move until the Scope ends. */
const control = Effect.fnUntraced(function* (params: LocalParams, storage: Storage, dataDir: string) {
  const { tenantId } = storage
  const token = Redacted.make(randomBytes(16).toString("hex"))
  const move = yield* moveTimeline.make(storage, {
    computeId,
    internalHttpPort: params.internalHttpPort,
    postgres: target(params)
  })
  const { address } = yield* StorageController.make({ tenantId, token, move })
  yield* controlFile.publish(dataDir, {
    url: `http://${address}`,
    token: Redacted.value(token),
    tenant_id: tenantId
  })
})

const local = (params: LocalParams, boot: Boot) =>
  Effect.gen(function* () {
    const user = yield* Owner.resolve(params.runAs)
    const dataDir = dataDirOf(params)
    const logFile = join(dataDir, "compute_ctl.log")
    const tokenFile = join(dataDir, "compute.token")
    yield* Effect.tryPromise({
      try: () => mkdir(dataDir, { recursive: true, mode: 0o755 }),
      catch: (cause) => new NoDataDir({ message: `cannot make the data directory ${dataDir}`, cause })
    })
    const storage = yield* LocalStorage.make(storageOptions(params, dataDir, user))
    yield* ports.check(params, pgdataIn(dataDir))
    // The directory is ours alone now; the log of another process stays as it is.
    yield* openLog(logFile, boot)
    yield* writeToken(tokenFile, yield* storage.keys.computeToken(computeId))
    yield* writeToken(join(dataDir, "storage.token"), yield* storage.keys.storageToken(storage.tenantId))
    storage.controlPlane.attach(computeId, yield* storage.documentFor({ port: params.port }))
    yield* control(params, storage, dataDir)
    write(`PostgreSQL ${storage.install.version}, data in ${dataDir}, log in ${logFile}\n`)
    const code = yield* compute(nodeParams(params, storage, dataDir), boot, (node) =>
      show(node.changes, write, () => welcome(params, tokenFile, storage))
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
