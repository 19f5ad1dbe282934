/**
 * Sessions with our own Postgres.
 *
 * Settings of databases and roles cannot get in the way: the start-up options outrank them. What the connection string
 * asks for outranks ours. No TLS. Every session has three deadlines: on connecting, on waiting for a lock, and on a
 * statement; the server ends what a session that we dropped was doing.
 *
 * Source: reference/startup §2.4, reference/catalog §4. Differs: deadlines (decision K5).
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { PostgresTarget } from "../domain/ConnString.ts"
import { Params } from "./Params.ts"
import * as PgWire from "./PgWire.ts"

/** What a session is for; Postgres shows it as `application_name`. */
export type Use =
  | "apply_config"
  | "post_apply_config"
  | "migrations"
  | "reconfigure"
  | "compute_monitor"
  | "get_dbs_and_roles"
  | "get_installed_extensions"
  | "availability_checker"
  | "collect_insights"
  | "set_role_grants"
  | "install_extension"
  | "get_database_schema"
  | "health_probe"

export interface Limits {
  /** From the start until the server is ready for queries. */
  readonly connect: Duration.Duration
  /** On each lock; the statement fails with 55P03. */
  readonly lock: Duration.Duration
  /** On each statement; it fails with 57014. */
  readonly statement: Duration.Duration
}

export const defaultLimits: Limits = {
  connect: Duration.seconds(10),
  lock: Duration.seconds(30),
  statement: Duration.minutes(5)
}

export interface SessionOptions {
  readonly use: Use
  /** Default: the one of the connection string. */
  readonly database?: string
  readonly limits?: Partial<Limits>
  /** More settings, as `-c name=value` words would set them. */
  readonly settings?: Readonly<Record<string, string>>
  /** User to connect and to work as; default: the user of the connection string, who works as `cloud_admin`. */
  readonly as?: string
}

const fixed = (role: string): string =>
  `-c role=${role} -c default_transaction_read_only=off -c search_path='' -c statement_timeout=0 -c pgaudit.log=none`

/**
 * What a role or a database may be given by `ALTER … SET` and would end a session of ours, or keep it from coming about:
 * deadlines of other kinds, and libraries that are not there.
 */
const harmless: Readonly<Record<string, string>> = {
  idle_session_timeout: "0",
  idle_in_transaction_session_timeout: "0",
  session_preload_libraries: "",
  local_preload_libraries: ""
}

/** A server that does not keep its own deadline is given this much more. */
const grace = Duration.seconds(5)

/** Only Linux can tell a server, while it works, that its client has gone. */
const noticeLoss: Readonly<Record<string, string>> =
  process.platform === "linux" ? { client_connection_check_interval: "1s" } : {}

const startupOptions = (target: PostgresTarget, limits: Limits, { as, settings }: SessionOptions): string => {
  const all = {
    statement_timeout: `${Duration.toMillis(limits.statement)}ms`,
    lock_timeout: `${Duration.toMillis(limits.lock)}ms`,
    ...noticeLoss,
    ...harmless,
    ...settings
  }
  return [
    fixed(as ?? "cloud_admin"),
    ...Object.entries(all).map(([name, value]) => `-c ${name}=${value}`),
    ...(target.options === undefined ? [] : [target.options])
  ].join(" ")
}

/** Opens a session; the Scope closes it. */
const connect = (target: PostgresTarget, options: SessionOptions) =>
  Effect.gen(function* () {
    const limits = { ...defaultLimits, ...options.limits }
    const session = yield* PgWire.connect({
      target: { ...target, database: options.database ?? target.database, user: options.as ?? target.user },
      parameters: {
        options: startupOptions(target, limits, options),
        application_name: `compute_ctl:${options.use}`
      },
      connectTimeout: limits.connect
    })
    const duration = Duration.sum(limits.statement, grace)
    const made: PgWire.Session = {
      ...session,
      query: (sql) =>
        Effect.timeoutOrElse(session.query(sql), {
          duration,
          orElse: () =>
            Effect.fail(
              new PgWire.PgError({
                message: `Postgres did not answer within ${Duration.format(duration)}`,
                code: "57014"
              })
            )
        })
    }
    return made
  })

export class Sql extends Context.Service<
  Sql,
  {
    readonly connect: (options: SessionOptions) => Effect.Effect<PgWire.Session, PgWire.PgError, Scope.Scope>
  }
>()("compute/layers/Sql") {
  /** Sessions with the server of a connection string. */
  static readonly to = (target: PostgresTarget) =>
    Layer.succeed(Sql, Sql.of({ connect: (options) => connect(target, options) }))

  /** Sessions with the Postgres of this node. */
  static readonly layer = Layer.unwrap(Effect.map(Params, ({ postgres }) => Sql.to(postgres)))
}
