/**
 * Changes that every cluster gets once, in this order. The list only grows; numbers are positions, from 1.
 *
 * Source: reference/catalog §13.2. Differs: migration 2 alters only roles that it changes.
 */
import { block, identifier, literal } from "./quoting.ts"

export interface Migration {
  /** From 1. */
  readonly id: number
  readonly name: string
  /** Undefined: superseded before it was released; only its number is taken. */
  readonly sql: string | undefined
}

const from16 = (statement: string): string =>
  block(
    `BEGIN IF pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.>=) 160000 THEN ${statement} END IF; END`
  )

const alterRoles = (role: string): string =>
  block(
    `DECLARE r pg_catalog.text; BEGIN` +
      ` FOR r IN SELECT a.rolname FROM pg_catalog.pg_roles AS a` +
      ` WHERE NOT a.rolinherit AND pg_catalog.pg_has_role(a.rolname, ${literal(role)}, 'member')` +
      ` LOOP EXECUTE pg_catalog.format('ALTER ROLE %I INHERIT', r); END LOOP;` +
      ` FOR r IN SELECT a.rolname FROM pg_catalog.pg_roles AS a` +
      ` WHERE a.rolbypassrls AND NOT pg_catalog.pg_has_role(a.rolname, ${literal(role)}, 'member')` +
      ` AND NOT pg_catalog.starts_with(a.rolname::pg_catalog.text, 'pg_')` +
      ` LOOP EXECUTE pg_catalog.format('ALTER ROLE %I NOBYPASSRLS', r); END LOOP; END`
  )

/** @param privilegedRole matches `^[a-z_]+$` */
export const migrations = (privilegedRole: string): ReadonlyArray<Migration> => {
  const role = identifier(privilegedRole)
  const list: ReadonlyArray<readonly [name: string, sql: string | undefined]> = [
    ["add_bypass_rls", `ALTER ROLE ${role} BYPASSRLS`],
    ["alter_roles", alterRoles(privilegedRole)],
    ["grant_pg_create_subscription", from16(`GRANT pg_create_subscription TO ${role};`)],
    ["grant_pg_monitor", `GRANT pg_monitor TO ${role} WITH ADMIN OPTION`],
    ["grant_all_on_tables", undefined],
    ["grant_all_on_sequences", undefined],
    ["grant_all_on_tables_with_grant_option", undefined],
    ["grant_all_on_sequences_with_grant_option", undefined],
    ["revoke_replication", undefined],
    [
      "grant_snapshot_synchronization_funcs",
      from16(
        `GRANT EXECUTE ON FUNCTION pg_catalog.pg_export_snapshot TO ${role};` +
          ` GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot TO ${role};`
      )
    ],
    [
      "grant_pg_show_replication_origin_status",
      `GRANT EXECUTE ON FUNCTION pg_catalog.pg_show_replication_origin_status TO ${role}`
    ],
    ["grant_pg_signal_backend", `GRANT pg_signal_backend TO ${role} WITH ADMIN OPTION`]
  ]
  return list.map(([name, sql], index) => ({ id: index + 1, name, sql }))
}

/** Number of the last migration. */
export const lastMigration = migrations("x").length
