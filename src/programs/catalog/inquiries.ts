/** Questions to a running Postgres that the HTTP API passes on. Source: reference/http-api §7.7, §7.9. */
import * as Effect from "effect/Effect"
import { PgError } from "../../layers/PgWire.ts"
import { Sql } from "../../layers/Sql.ts"

const diskFull = "53100"

const touch =
  "INSERT INTO public.health_check AS h VALUES (1, pg_catalog.now())" +
  " ON CONFLICT (id) DO UPDATE SET updated_at = pg_catalog.now()"

/** Writes a row. A full disk of the tenant counts as writable: the node is not to blame. */
export const checkWritability = Effect.fn("check_writability")(function* () {
  const sql = yield* Sql
  const session = yield* sql.connect({ use: "availability_checker" })
  yield* session.query(touch).pipe(
    Effect.catchIf(
      ({ code }) => code === diskFull,
      () => Effect.logWarning("Tenant disk is full")
    )
  )
  return true
}, Effect.scoped)

const roles = "SELECT rolname, rolpassword FROM pg_catalog.pg_authid ORDER BY rolname"
const databases =
  "SELECT datname, pg_catalog.pg_get_userbyid(datdba), NOT datallowconn, datconnlimit OPERATOR(pg_catalog.=) -2" +
  " FROM pg_catalog.pg_database ORDER BY datname"

/** All roles with their verifiers, and all databases, as the catalogs have them. */
export const catalogObjects = Effect.fn("get_dbs_and_roles")(function* () {
  const sql = yield* Sql
  const session = yield* sql.connect({ use: "get_dbs_and_roles" })
  const [foundRoles, foundDatabases] = yield* session.query(`${roles}; ${databases}`)
  if (foundRoles === undefined || foundDatabases === undefined) {
    return yield* new PgError({ message: "Postgres did not answer with roles and databases" })
  }
  return {
    roles: foundRoles.rows.map(([name, verifier]) => ({
      name: name ?? "",
      encrypted_password: verifier ?? null,
      options: null
    })),
    databases: foundDatabases.rows.map(([name, owner, restricted, invalid]) => ({
      name: name ?? "",
      owner: owner ?? "",
      options: null,
      restrict_conn: restricted === "t",
      invalid: invalid === "t"
    }))
  }
}, Effect.scoped)
