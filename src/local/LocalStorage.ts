/**
 * The storage and the control plane of a compute, in this process on loopback, in front of an unpatched PostgreSQL.
 *
 * Everything speaks the real protocols; what lies behind them is a directory with one archive per clean stop. A clean
 * stop keeps everything; what a crashed Postgres had written since the last clean stop is lost.
 * When the Scope ends, no process, socket, pipe, temporary file or lock is left.
 */
import { randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import type { Database, GenericOption, Role } from "../domain/ComputeSpec.ts"
import { describeLine } from "../domain/describe.ts"
import { TenantId, TimelineId } from "../domain/Identifiers.ts"
import type { PageserverConnectionInfo } from "../domain/PageserverConnection.ts"
import type { PostgresMajor } from "../domain/PostgresVersion.ts"
import type { User } from "../layers/Owner.ts"
import { obstacle } from "./access.ts"
import * as ControlPlane from "./ControlPlane.ts"
import * as jsonFile from "./jsonFile.ts"
import * as Keys from "./Keys.ts"
import * as Pageserver from "./Pageserver.ts"
import * as PostgresInstall from "./PostgresInstall.ts"
import * as PostgresStub from "./PostgresStub.ts"
import * as Safekeeper from "./Safekeeper.ts"
import { tokens } from "./StorageAuth.ts"
import * as Store from "./Store.ts"
import * as Template from "./Template.ts"

/** The data directory cannot be used. */
export class DataDirUnusable extends Data.TaggedError("DataDirUnusable")<{
  readonly path: string
  readonly message: string
  readonly cause?: unknown
}> {}

/** There is no pageserver with that number. */
export class NoSuchPageserver extends Data.TaggedError("NoSuchPageserver")<{ readonly message: string }> {}

export interface Options {
  /** Absolute; made when it is not there. Whoever runs Postgres must be able to reach it. */
  readonly dataDir: string
  /** A version from npm (17 when left out), or binaries that are there. */
  readonly postgres?:
    | { readonly _tag: "Bundled"; readonly major: PostgresMajor }
    | { readonly _tag: "Bindir"; readonly bindir: string }
  /** Who runs Postgres; undefined: this process' own user. */
  readonly user: User | undefined
  /** Binaries and templates that several data directories share; see `PostgresInstall.defaultCacheDir`. */
  readonly cacheDir?: string
  /** Ports of the servers; free ones when left out. */
  readonly ports?: {
    readonly pageservers?: ReadonlyArray<number>
    readonly safekeepers?: ReadonlyArray<number>
    readonly controlPlane?: number
  }
  /** How many of each; 1 and 3 when left out. */
  readonly pageservers?: number
  readonly safekeepers?: number
  /** How long a base backup waits for its position; 300 s when left out. */
  readonly waitLimit?: Pageserver.Options["waitLimit"]
}

/** What of a document is not given by the storage. */
export interface DocumentOptions {
  /** Where Postgres listens, on 127.0.0.1. */
  readonly port: number
  readonly roles?: ReadonlyArray<Role>
  readonly databases?: ReadonlyArray<Database>
  /** Settings beyond the usual ones; they come later in `postgresql.conf` and win. */
  readonly settings?: ReadonlyArray<GenericOption>
}

/** Where a tenant was, and where it is; these may be the same. */
export interface Move {
  readonly from: Pageserver.Pageserver
  readonly to: Pageserver.Pageserver
}

export class LocalStorage extends Context.Service<
  LocalStorage,
  {
    readonly tenantId: TenantId
    readonly timelineId: TimelineId
    readonly install: PostgresInstall.PostgresInstall
    readonly store: Store.Store
    /** Numbered from 1; there is always one. */
    readonly pageservers: readonly [Pageserver.Pageserver, ...ReadonlyArray<Pageserver.Pageserver>]
    /** The first one. */
    readonly pageserver: Pageserver.Pageserver
    /** The one that the tenant is attached to; also in the next runs on this directory. */
    readonly attached: () => Pageserver.Pageserver
    /** `pageserver_connection_info` for the one that the tenant is attached to. */
    readonly connectionInfo: () => typeof PageserverConnectionInfo.Encoded
    /**
     * Attaches the tenant to the pageserver with that number, and detaches it where it was. Without a number: the one
     * behind the present one. Computes are not told.
     */
    readonly move: (to: number | undefined) => Effect.Effect<Move, NoSuchPageserver | DataDirUnusable>
    readonly safekeepers: ReadonlyArray<Safekeeper.Safekeeper>
    readonly controlPlane: ControlPlane.ControlPlane
    readonly stub: PostgresStub.PostgresStub
    readonly keys: Keys.Keys
    /** A document for a primary on this storage: every setting that an unpatched Postgres cannot digest is left out. */
    readonly documentFor: (options: DocumentOptions) => Effect.Effect<ControlPlane.Document>
  }
>()("compute/local/LocalStorage") {
  static readonly layer = (options: Options) => Layer.effect(LocalStorage, make(options))
}

const Identity = jsonFile.of(Schema.Struct({ tenant_id: TenantId, timeline_id: TimelineId }))

/** Number of the pageserver that the tenant is attached to. */
const Attached = jsonFile.of(Schema.Struct({ pageserver: Schema.Natural }))

const unusable = (path: string) => (cause: unknown) =>
  new DataDirUnusable({ path, message: `cannot use ${path} as data directory: ${describeLine(cause)}`, cause })

/** Makes the directory; whoever runs Postgres must be able to pass through it. */
const openDataDir = (path: string, user: User | undefined) =>
  Effect.tryPromise({
    try: async () => {
      await fs.mkdir(path, { recursive: true, mode: 0o755 })
      const blocked = await obstacle(path, user, "execute")
      if (blocked !== undefined) {
        throw new Error(`${user?.name ?? "this user"} runs Postgres and cannot get past ${blocked}`)
      }
    },
    catch: unusable(path)
  })

/** The tenant and timeline of a data directory; chosen once. */
const openIdentity = (dataDir: string) =>
  Effect.tryPromise({
    try: async () => {
      const path = join(dataDir, "identity.json")
      const known = await Identity.read(path)
      if (known !== undefined) return known
      const fresh = Identity.decode({
        tenant_id: randomBytes(16).toString("hex"),
        timeline_id: randomBytes(16).toString("hex")
      })
      await Identity.write(path, fresh)
      return fresh
    },
    catch: unusable(dataDir)
  })

/** Settings of a compute on this storage. */
export const postgresqlConf = (port: number): string =>
  [
    "listen_addresses = '127.0.0.1'",
    `port = ${port}`,
    "unix_socket_directories = ''",
    "max_connections = 100",
    "shared_buffers = 64MB",
    "wal_level = logical",
    "max_wal_senders = 10",
    "max_replication_slots = 10",
    "hot_standby = on",
    "wal_log_hints = off",
    "restart_after_crash = off",
    // The data directory does not outlive the run; what is to last is synced by the store.
    "fsync = off",
    ""
  ].join("\n")

const times = <A, E, R>(count: number, make: (index: number) => Effect.Effect<A, E, R>) =>
  Effect.forEach(
    Array.from({ length: count }, (_, index) => index),
    make
  )

export const make = Effect.fnUntraced(function* (options: Options) {
  const { dataDir, user, ports } = options
  const cacheDir = options.cacheDir ?? PostgresInstall.defaultCacheDir(user)
  const postgres = options.postgres ?? { _tag: "Bundled", major: PostgresInstall.bundledMajor }

  yield* openDataDir(dataDir, user)
  const store = yield* Store.open(join(dataDir, "timelines"))
  const { tenant_id: tenantId, timeline_id: timelineId } = yield* openIdentity(dataDir)
  const keys = yield* Keys.open(join(dataDir, "keys"))
  const install =
    postgres._tag === "Bundled"
      ? yield* PostgresInstall.find({ major: postgres.major, user, cacheDir })
      : yield* PostgresInstall.at(postgres.bindir, user)
  const seed = yield* Template.open({ install, user, cacheDir })
  const timeline = yield* store.create({ tenantId, timelineId }, seed)
  if (timeline.major !== install.major) {
    return yield* new DataDirUnusable({
      path: dataDir,
      message: `${dataDir} holds databases of PostgreSQL ${timeline.major}, and this is PostgreSQL ${install.major}`
    })
  }

  const authentication = tokens(keys.storagePublicKey)
  const port = (given: number | undefined) => (given === undefined ? {} : { port: given })
  const [pageserver, ...morePageservers] = yield* times(Math.max(1, options.pageservers ?? 1), (index) =>
    Pageserver.make({
      id: index + 1,
      store,
      authentication,
      ...(options.waitLimit === undefined ? {} : { waitLimit: options.waitLimit }),
      ...port(ports?.pageservers?.[index])
    })
  )
  if (pageserver === undefined) return yield* Effect.die("at least one pageserver was made")
  const pageservers = [pageserver, ...morePageservers] as const

  const attachedFile = join(dataDir, "attached.json")
  const remembered = yield* Effect.tryPromise({ try: () => Attached.read(attachedFile), catch: unusable(dataDir) })
  // With fewer pageservers than in the last run the one may be missing.
  let attached = pageservers.find(({ id }) => id === remembered?.pageserver) ?? pageserver
  attached.attach({ tenantId })

  const moving = yield* Semaphore.make(1)
  const move = Effect.fnUntraced(function* (wanted: number | undefined) {
    const from = attached
    const to = pageservers.find(({ id }) => id === (wanted ?? (from.id % pageservers.length) + 1))
    if (to === undefined) {
      const there = pageservers.length === 1 ? "there is only pageserver 1" : `they are 1 to ${pageservers.length}`
      return yield* new NoSuchPageserver({ message: `there is no pageserver ${wanted}: ${there}` })
    }
    if (to !== from) {
      yield* Effect.tryPromise({
        try: () => Attached.write(attachedFile, { pageserver: to.id }),
        catch: unusable(dataDir)
      })
      to.attach({ tenantId })
      attached = to
      from.detach({ tenantId })
    }
    return { from, to }
  }, moving.withPermit)

  const connectionInfo = () => ({
    shard_count: 0,
    stripe_size: null,
    shards: { "0000": { pageservers: [{ id: attached.id, libpq_url: attached.url }] } },
    prefer_protocol: "libpq" as const
  })

  const safekeepers = yield* times(options.safekeepers ?? 3, (index) =>
    Safekeeper.make({ store, authentication, ...port(ports?.safekeepers?.[index]) })
  )
  const controlPlane = yield* ControlPlane.make({
    token: Redacted.make(randomBytes(16).toString("hex")),
    ...port(ports?.controlPlane)
  })
  const stub = yield* PostgresStub.make({ store, install, user, directory: join(dataDir, "run") })

  const documentFor = Effect.fnUntraced(function* (wanted: DocumentOptions) {
    const document: ControlPlane.Document = {
      spec: {
        format_version: 1.0,
        suspend_timeout_seconds: -1,
        cluster: {
          roles: wanted.roles ?? [],
          databases: wanted.databases ?? [],
          postgresql_conf: postgresqlConf(wanted.port),
          settings: wanted.settings ?? []
        },
        tenant_id: tenantId,
        timeline_id: timelineId,
        pageserver_connection_info: connectionInfo(),
        safekeeper_connstrings: safekeepers.map(({ address }) => address),
        storage_auth_token: Redacted.value(yield* keys.storageToken(tenantId)),
        mode: "Primary"
      },
      compute_ctl_config: { jwks: { keys: [keys.computeJwk] } }
    }
    return document
  })

  return LocalStorage.of({
    tenantId,
    timelineId,
    install,
    store,
    pageservers,
    pageserver,
    attached: () => attached,
    connectionInfo,
    move,
    safekeepers,
    controlPlane,
    stub,
    keys,
    documentFor
  })
})
