/** A real PostgreSQL for a block of tests, and documents applied to it. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { decodeComputeSpec } from "../../../src/domain/ComputeConfig.ts"
import type { ComputeSpec } from "../../../src/domain/ComputeSpec.ts"
import { type Desired, fromSpec } from "../../../src/domain/catalog/Desired.ts"
import type { Mode } from "../../../src/domain/catalog/plan.ts"
import { identifier } from "../../../src/domain/catalog/quoting.ts"
import { TenantId, TimelineId } from "../../../src/domain/Identifiers.ts"
import * as ParsedSpec from "../../../src/domain/ParsedSpec.ts"
import { type Limits, Sql } from "../../../src/layers/Sql.ts"
import { apply } from "../../../src/programs/catalog/apply.ts"
import { type Cluster, type ClusterOptions, makeCluster } from "../../support/postgres.ts"

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

export interface ApplyWish {
  readonly mode?: Mode
  readonly concurrency?: number
  readonly privilegedRole?: string
  readonly lakebase?: boolean
  readonly limits?: { readonly [Name in keyof Limits]?: Duration.Input }
}

const limitsOf = ({ limits = {} }: ApplyWish): Partial<Limits> => ({
  ...(limits.connect === undefined ? {} : { connect: Duration.fromInputUnsafe(limits.connect) }),
  ...(limits.lock === undefined ? {} : { lock: Duration.fromInputUnsafe(limits.lock) }),
  ...(limits.statement === undefined ? {} : { statement: Duration.fromInputUnsafe(limits.statement) })
})

/** A cluster that documents are applied to. */
export const makeServer = Effect.fnUntraced(function* (options: ClusterOptions) {
  const cluster = yield* makeCluster(options)
  const sqlLayer = Sql.to(cluster.target)
  return {
    ...cluster,
    apply: (document: Document, wish: ApplyWish = {}) =>
      apply(desiredOf(document, wish.privilegedRole, wish.lakebase), {
        mode: wish.mode ?? "incremental",
        concurrency: wish.concurrency ?? 4,
        limits: limitsOf(wish)
      }).pipe(Effect.provide(sqlLayer)),
    provide: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.provide(self, sqlLayer)
  }
})

/** Databases and roles that tests have made. */
const madeDatabases = "SELECT datname, datistemplate FROM pg_database WHERE datname !~ '^(postgres|template.)$'"
const madeRoles = "SELECT rolname FROM pg_roles WHERE rolname !~ '^(pg_|neon_superuser$|cloud_admin$)'"

const madeSubscriptions = "SELECT datname, subname FROM pg_subscription JOIN pg_database AS d ON d.oid = subdbid"

/** Takes a server back to where it began, but for the service objects. */
const wipe = Effect.fnUntraced(function* ({ connect }: Pick<Cluster, "connect">) {
  const session = yield* connect()
  const rows = (text: string) => Effect.map(session.query(text), ([set]) => set?.rows ?? [])
  for (const [database, name] of yield* rows(madeSubscriptions)) {
    const subscription = `SUBSCRIPTION ${identifier(name ?? "")}`
    const inside = yield* connect(database ?? "")
    yield* inside.query(
      `ALTER ${subscription} DISABLE; ALTER ${subscription} SET (slot_name = NONE); DROP ${subscription}`
    )
  }
  for (const [name, isTemplate] of yield* rows(madeDatabases)) {
    const database = identifier(name ?? "")
    if (isTemplate === "t") yield* session.query(`ALTER DATABASE ${database} IS_TEMPLATE false`)
    yield* session.query(`DROP DATABASE ${database} WITH (FORCE)`)
  }
  for (const [name] of yield* rows(madeRoles)) {
    const role = identifier(name ?? "")
    yield* session.query(`REASSIGN OWNED BY ${role} TO cloud_admin; DROP OWNED BY ${role} CASCADE; DROP ROLE ${role}`)
  }
  for (const table of ["neon_migration.catalog_state", "neon.drop_subscriptions_done"]) {
    const [[found] = []] = yield* rows(`SELECT to_regclass('${table}')`)
    if (found !== null) yield* session.query(`TRUNCATE ${table}`)
  }
}, Effect.scoped)

/** What is tested here is seen in the catalogs, not in the log. */
export const quiet = Layer.succeed(References.MinimumLogLevel, "None")

/** One server for a block of tests. */
export class Server extends Context.Service<Server, Effect.Success<ReturnType<typeof makeServer>>>()(
  "test/programs/catalog/Server"
) {
  static readonly vanilla = Layer.merge(Layer.effect(Server, makeServer({ neon: false })), quiet)
  static readonly withNeon = Layer.merge(Layer.effect(Server, makeServer({ neon: true })), quiet)

  /** The server of the block, without what the test before has left. */
  static readonly wiped = Effect.tap(Server, wipe)
}
