/**
 * Grants a role what it does not have yet on a schema.
 *
 * Source: reference/http-api §8.3.
 */
import * as Effect from "effect/Effect"
import { identifier, literal } from "../../domain/catalog/quoting.ts"
import { Sql } from "../../layers/Sql.ts"
import { doing } from "./doing.ts"

export interface Grant {
  readonly database: string
  readonly schema: string
  readonly role: string
  /** Key words. */
  readonly privileges: ReadonlyArray<string>
}

const held = ({ role, schema }: Grant): string =>
  "SELECT acl.privilege_type FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) acl, pg_catalog.pg_roles r" +
  " WHERE acl.grantee OPERATOR(pg_catalog.=) r.oid" +
  ` AND r.rolname OPERATOR(pg_catalog.=) ${literal(role)}::pg_catalog.text` +
  ` AND n.nspname OPERATOR(pg_catalog.=) ${literal(schema)}::pg_catalog.text`

/** "tuple concurrently updated": somebody else's grant on the same schema came first, and nothing of ours was done. */
const concurrently = "XX000"

/** What is held already costs no statement: a replica can be asked, too. */
export const grantOnSchema = Effect.fn("set_role_grants")(function* (wish: Grant) {
  const sql = yield* Sql
  const session = yield* doing(
    "Failed to connect to the database",
    sql.connect({ use: "set_role_grants", database: wish.database })
  )
  const query = held(wish)
  const grantMissing = Effect.gen(function* () {
    const [found] = yield* doing(`Failed to execute query: ${query}`, session.query(query))
    const has = new Set(found?.rows.map(([privilege]) => privilege))
    const missing = [...new Set(wish.privileges)].filter((privilege) => !has.has(privilege))
    if (missing.length === 0) return
    const grant = `GRANT ${missing.join(", ")} ON SCHEMA ${identifier(wish.schema)} TO ${identifier(wish.role)}`
    yield* doing(`Failed to execute query: ${grant}`, session.query(grant))
  })
  yield* Effect.retry(grantMissing, { times: 3, while: ({ code }) => code === concurrently })
}, Effect.scoped)
