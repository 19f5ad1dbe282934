/** All roles and databases, as the catalogs have them. Source: reference/http-api §7.9. */
import * as Effect from "effect/Effect"
import { PgError } from "../../layers/PgWire.ts"
import { Sql } from "../../layers/Sql.ts"

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
