/** Sessions for the work on the catalogs. Source: reference/catalog §4.2. */
import * as Effect from "effect/Effect"
import { PgError } from "../../layers/PgWire.ts"
import { type Limits, type SessionOptions, Sql } from "../../layers/Sql.ts"

/** Settings of every session that changes something: the extension does not report it to the control plane. */
const settings = { "neon.forward_ddl": "false" }

const connect = (limits: Partial<Limits> | undefined, options: Pick<SessionOptions, "as" | "database">) =>
  Effect.flatMap(Sql, (sql) =>
    sql.connect({ use: "apply_config", settings, ...options, ...(limits === undefined ? {} : { limits }) })
  )

/** Opens a session. `database`: default the system database. */
export const openSession = (limits?: Partial<Limits>, database?: string) =>
  connect(limits, database === undefined ? {} : { database })

/** SQLSTATE of a user that does not exist or is not let in. */
const refused: ReadonlySet<string | undefined> = new Set(["28P01", "28000"])

/** The superuser of clusters that were made before `cloud_admin` had its name. */
const formerAdmin = "zenith_admin"

const makeAdmin = (limits: Partial<Limits> | undefined, refusal: PgError) =>
  Effect.gen(function* () {
    yield* Effect.logInfo(`cannot connect to Postgres: ${refusal.message}, retrying with '${formerAdmin}' username`)
    const session = yield* connect(limits, { as: formerAdmin })
    yield* session.query(`CREATE USER cloud_admin WITH SUPERUSER; GRANT ${formerAdmin} TO cloud_admin`)
  }).pipe(
    Effect.scoped,
    Effect.mapError(
      (cause) =>
        new PgError({
          message: `broken cloud_admin credential: tried connecting with cloud_admin but could not authenticate (${refusal.message}), and ${formerAdmin} does not work either`,
          cause
        })
    )
  )

/** Opens a session of the system database; in a cluster of the former superuser `cloud_admin` is made first. */
export const openAsAdmin = (limits?: Partial<Limits>) =>
  Effect.catchIf(
    openSession(limits),
    ({ code }) => refused.has(code),
    (refusal) => Effect.andThen(makeAdmin(limits, refusal), openSession(limits))
  )
