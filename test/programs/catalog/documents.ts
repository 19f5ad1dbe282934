/** Documents that many tests apply, and what they look for afterwards. */
import { major } from "../../support/postgres.ts"
import type { Document } from "./server.ts"

/** A verifier that the server accepts; no password fits it. */
export const verifier = (letter: string): string =>
  `SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$${letter.repeat(43)}=:${"B".repeat(43)}=`

/** Digest of an md5 password, as documents have it. */
export const digest = "2e7535f355c639573f1853ccec7a03d0"

/** A role for each name, and a database of that name that it owns. */
export const owned = (names: ReadonlyArray<string>): Document => ({
  roles: names.map((name) => ({ name, encrypted_password: verifier("A") })),
  databases: names.map((name) => ({ name, owner: name }))
})

export const deleteDatabases = (names: ReadonlyArray<string>) => names.map((name) => ({ action: "delete_db", name }))
export const deleteRoles = (names: ReadonlyArray<string>) => names.map((name) => ({ action: "delete_role", name }))

/** Deletes what `owned` has made. */
export const deleted = (names: ReadonlyArray<string>): Document => ({
  deltas: [...deleteDatabases(names), ...deleteRoles(names)]
})

/** Databases and roles that are neither the server's nor ours. */
export const databases = "SELECT datname FROM pg_database WHERE datname !~ '^(postgres|template.)$' ORDER BY 1"
export const roles = "SELECT rolname FROM pg_roles WHERE rolname !~ '^(pg_|neon_superuser|cloud_admin)' ORDER BY 1"

/** Changes of the privileged role that an apply puts right. Memberships have options, and a row for each grantor, since 16. */
export const privilegedDrift: ReadonlyArray<string> = [
  "ALTER ROLE neon_superuser SUPERUSER",
  "ALTER ROLE neon_superuser NOINHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS",
  "ALTER ROLE neon_superuser CONNECTION LIMIT 1 VALID UNTIL '2020-01-01' PASSWORD 'x'",
  "REVOKE pg_read_all_data, pg_write_all_data FROM neon_superuser",
  "GRANT pg_read_all_data TO neon_superuser WITH ADMIN OPTION",
  `GRANT pg_execute_server_program${major < 15 ? "" : ", pg_checkpoint"} TO neon_superuser`,
  "GRANT cloud_admin TO neon_superuser",
  ...(major < 16 ? [] : ["GRANT pg_read_all_data TO neon_superuser WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"])
]
