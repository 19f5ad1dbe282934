/** Documents with so many roles and databases, and the script that makes the same. */
import { identifier, literal } from "../../src/domain/catalog/quoting.ts"

/** What differs from the plain document. */
export type Change = "none" | "password" | "rename"

const verifier = (letter: string): string =>
  `SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$${letter.repeat(43)}=:${"B".repeat(43)}=`

const numbers = (size: number): ReadonlyArray<number> => Array.from({ length: size }, (_, index) => index)

const role = (index: number): string => `role ${index}`
const database = (index: number): string => `database ${index}`
const renamed = "database renamed"

/** The changes follow each other: the renamed one has the changed password, too. */
export const documentOf = (size: number, postgresqlConf: string, change: Change) => ({
  compute_ctl_config: { jwks: { keys: [] } },
  spec: {
    format_version: 1,
    suspend_timeout_seconds: -1,
    tenant_id: "f".repeat(32),
    timeline_id: "0123456789abcdef0123456789abcdef",
    pageserver_connstring: "postgresql://localhost",
    safekeeper_connstrings: ["localhost:1"],
    mode: "Primary",
    cluster: {
      roles: numbers(size).map((index) => ({
        name: role(index),
        encrypted_password: verifier(index === 0 && change !== "none" ? "C" : "A"),
        options: null
      })),
      databases: numbers(size).map((index) => ({
        name: index === 0 && change === "rename" ? renamed : database(index),
        owner: role(index),
        options: null
      })),
      postgresql_conf: postgresqlConf,
      settings: []
    },
    ...(change === "rename"
      ? { delta_operations: [{ action: "rename_db", name: database(0), new_name: renamed }] }
      : {})
  }
})

const privileged = "neon_superuser"

/** One session after the other. */
export const scriptOf = (
  size: number
): ReadonlyArray<{ readonly database: string; readonly statements: ReadonlyArray<string> }> => [
  {
    database: "postgres",
    statements: [
      `CREATE ROLE ${privileged} CREATEDB CREATEROLE NOLOGIN REPLICATION BYPASSRLS IN ROLE pg_read_all_data, pg_write_all_data`,
      ...numbers(size).map(
        (index) =>
          `CREATE ROLE ${identifier(role(index))} INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION IN ROLE ${privileged} LOGIN PASSWORD ${literal(verifier("A"))}`
      ),
      ...numbers(size).flatMap((index) => [
        `CREATE DATABASE ${identifier(database(index))} OWNER ${identifier(role(index))}`,
        `GRANT ALL PRIVILEGES ON DATABASE ${identifier(database(index))} TO ${privileged}`
      ])
    ]
  },
  ...numbers(size).map((index) => ({
    database: database(index),
    statements: ["TABLES", "SEQUENCES"].map(
      (objects) =>
        `ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON ${objects} TO ${privileged} WITH GRANT OPTION`
    )
  }))
]
