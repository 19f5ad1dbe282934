/**
 * The statements that read a snapshot.
 *
 * Each is a single `SELECT` of a single JSON text; what there can be thousands of comes by columns, which the server
 * makes and the reader takes apart several times faster than objects. All names are qualified and all operators are
 * `pg_catalog`'s: what users plant in a search path is never called. Tables of ours that may not exist are read by
 * `query_to_xml`, the one built-in function that runs the text of a query.
 */
import type { Desired } from "./Desired.ts"
import { literal } from "./quoting.ts"
import { stateTable } from "./stateTable.ts"

const eq = "OPERATOR(pg_catalog.=)"
const ne = "OPERATOR(pg_catalog.<>)"

const objectOf = (columns: Readonly<Record<string, string>>, value: (expression: string) => string): string =>
  `pg_catalog.json_build_object(${Object.entries(columns)
    .map(([name, expression]) => `'${name}', ${value(expression)}`)
    .join(", ")})`

const aggregate = (expression: string): string => `COALESCE(pg_catalog.json_agg(${expression}), '[]'::pg_catalog.json)`

/** Rows of a subquery as a JSON array of objects. `columns` are names and expressions. */
const rows = (columns: Readonly<Record<string, string>>, rest: string): string =>
  `(SELECT ${aggregate(objectOf(columns, (expression) => expression))} FROM ${rest})`

/** Rows of a subquery as a JSON object of arrays of the same length. */
const columnar = (columns: Readonly<Record<string, string>>, rest: string): string =>
  `(SELECT ${objectOf(columns, aggregate)} FROM ${rest})`

/** What XML puts in the place of characters of a text; the ampersand comes last. */
const entities = [
  ["&lt;", "'<'"],
  ["&gt;", "'>'"],
  ["&#x0d;", "pg_catalog.chr(13)"],
  ["&amp;", "'&'"]
] as const

/** A table that may be missing, by its columns; null without the table. */
const maybe = (table: string, columns: Readonly<Record<string, string>>): string => {
  const query = `SELECT ${columnar(columns, `${table} AS t`)} AS j`
  const xml = `pg_catalog.query_to_xml(${literal(query)}, true, true, '')::pg_catalog.text`
  const escaped = `pg_catalog.split_part(pg_catalog.split_part(${xml}, '<j>', 2), '</j>', 1)`
  const json = entities.reduce(
    (text, [entity, character]) => `pg_catalog.replace(${text}, '${entity}', ${character})`,
    escaped
  )
  return `CASE WHEN pg_catalog.to_regclass(${literal(table)}) IS NOT NULL THEN (${json})::pg_catalog.json END`
}

const list = (texts: ReadonlyArray<string>): string => `ARRAY[${texts.map(literal).join(", ")}]::pg_catalog.text[]`

const nameOf = (oid: string): string => `(SELECT rolname FROM pg_catalog.pg_authid AS n WHERE n.oid ${eq} ${oid})`

const named = (member: string, value: string): string => `'${member}', ${value}`

/** Ends a deadline of version 17 that a database may have, and that start-up options cannot name for all versions. */
const noDeadline = named(
  "deadline",
  "CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.>=) 170000" +
    " THEN pg_catalog.set_config('transaction_timeout', '0', false) END"
)

/** Roles of which the plan has to know where they are used. */
const deletedRoles = ({ deltas }: Desired): ReadonlyArray<string> =>
  deltas.flatMap((delta) => {
    switch (delta._tag) {
      case "DeleteRole":
        return [delta.name]
      case "RenameRole":
        return [delta.name, delta.newName]
      default:
        return []
    }
  })

const oidOf = (role: string): string =>
  `(SELECT n.oid FROM pg_catalog.pg_authid AS n WHERE n.rolname ${eq} ${literal(role)}::pg_catalog.name)`

const versionOf = (extension: string): string =>
  `(SELECT a.default_version FROM pg_catalog.pg_available_extensions AS a` +
  ` WHERE a.name ${eq} ${literal(extension)}::pg_catalog.name)`

/** What is missing makes NULL, and so not granted. */
const monitorIsGranted = (): string => {
  const monitor = oidOf("databricks_monitor")
  const table = (name: string, right: string) =>
    `pg_catalog.has_table_privilege(${monitor}, pg_catalog.to_regclass('${name}')::pg_catalog.oid, '${right}')`
  const execute = (name: string) =>
    `pg_catalog.has_function_privilege(${monitor}, pg_catalog.to_regprocedure('${name}')::pg_catalog.oid, 'EXECUTE')`
  const rights = [
    `pg_catalog.has_schema_privilege(${monitor}, (SELECT s.oid FROM pg_catalog.pg_namespace AS s` +
      ` WHERE s.nspname ${eq} 'neon'::pg_catalog.name), 'USAGE')`,
    ...["SELECT", "INSERT", "UPDATE"].map((right) => table("public.health_check", right)),
    execute("pg_catalog.pg_ls_dir(pg_catalog.text)"),
    `COALESCE(${table("neon.neon_perf_counters", "SELECT")}, true)`,
    `COALESCE(${execute("neon.get_perf_counters()")}, true)`
  ]
  return `COALESCE(${rights.join(" AND ")}, false)`
}

/** What lakebase mode looks at. */
const databricks = (): string =>
  objectOf(
    {
      authVersion: versionOf("databricks_auth"),
      readerTimeout: "pg_catalog.current_setting('databricks.reader_statement_timeout', true)",
      timeouts: rows(
        { role: "r.rolname", settings: "c.setconfig" },
        "pg_catalog.pg_authid AS r LEFT JOIN pg_catalog.pg_db_role_setting AS c" +
          ` ON c.setrole ${eq} r.oid AND c.setdatabase ${eq} 0::pg_catalog.oid` +
          " WHERE r.rolname OPERATOR(pg_catalog.~) '^databricks_(reader_[0-9]+|monitor)$'"
      ),
      monitorIsGranted: monitorIsGranted(),
      healthFunction: "pg_catalog.to_regprocedure('public.health_check_write_succeeds()') IS NOT NULL"
    },
    (expression) => expression
  )

/** Attributes of a role, in the order of the letters `t` and `f` in its flags. */
const flagColumns = [
  "rolsuper",
  "rolinherit",
  "rolcreaterole",
  "rolcreatedb",
  "rolcanlogin",
  "rolreplication",
  "rolbypassrls"
]

/** Reads everything that can be seen from the system database. */
export const snapshotQuery = (desired: Desired): string => {
  const deleted = deletedRoles(desired)
  const members = [
    noDeadline,
    named("version", "pg_catalog.current_setting('server_version_num')::pg_catalog.int4"),
    named("recovery", "pg_catalog.pg_is_in_recovery()"),
    named("database", "pg_catalog.current_database()"),
    named("admin", "CURRENT_USER"),
    named(
      "roles",
      columnar(
        {
          name: "r.rolname",
          verifier: "r.rolpassword",
          flags: `pg_catalog.concat(${flagColumns.map((column) => `r.${column}`).join(", ")})`,
          connectionLimit: "r.rolconnlimit",
          validUntil: `CASE WHEN r.rolvaliduntil ${ne} 'infinity'::pg_catalog.timestamptz THEN r.rolvaliduntil::pg_catalog.text END`
        },
        "pg_catalog.pg_authid AS r"
      )
    ),
    named(
      "memberships",
      rows(
        {
          role: nameOf("m.roleid"),
          grantor: nameOf("m.grantor"),
          admin: "m.admin_option",
          // Columns of version 16 and later.
          inherit: "pg_catalog.jsonb_extract_path(pg_catalog.to_jsonb(m), 'inherit_option')",
          set: "pg_catalog.jsonb_extract_path(pg_catalog.to_jsonb(m), 'set_option')"
        },
        `pg_catalog.pg_auth_members AS m WHERE m.member ${eq} ${oidOf(desired.privilegedRole)}`
      )
    ),
    named(
      "databases",
      columnar(
        {
          oid: "d.oid::pg_catalog.int8",
          name: "d.datname",
          owner: "o.rolname",
          flags: "pg_catalog.concat(d.datistemplate, d.datallowconn)",
          connectionLimit: "d.datconnlimit"
        },
        `pg_catalog.pg_database AS d JOIN pg_catalog.pg_authid AS o ON o.oid ${eq} d.datdba`
      )
    ),
    named(
      "subscriptions",
      rows({ database: "s.subdbid::pg_catalog.int8", name: "s.subname" }, "pg_catalog.pg_subscription AS s")
    ),
    named(
      "dependents",
      deleted.length === 0
        ? "'[]'::pg_catalog.json"
        : rows(
            { role: "x.role", database: "x.database", shared: "x.shared" },
            `(SELECT DISTINCT r.rolname AS role, p.dbid::pg_catalog.int8 AS database,` +
              ` CASE p.classid WHEN 'pg_catalog.pg_database'::pg_catalog.regclass THEN p.objid::pg_catalog.int8 END AS shared` +
              ` FROM pg_catalog.pg_shdepend AS p, pg_catalog.pg_authid AS r` +
              ` WHERE p.refclassid ${eq} 'pg_catalog.pg_authid'::pg_catalog.regclass AND p.refobjid ${eq} r.oid` +
              ` AND r.rolname::pg_catalog.text ${eq} ANY (${list(deleted)})) AS x`
          )
    ),
    named(
      "schemas",
      rows(
        { name: "s.nspname", owner: nameOf("s.nspowner") },
        `pg_catalog.pg_namespace AS s WHERE s.nspname::pg_catalog.text ${eq} ANY (${list(["neon", "neon_migration", "public"])})`
      )
    ),
    named(
      "extensions",
      rows(
        {
          name: "e.extname",
          version: "e.extversion",
          schema: `(SELECT nspname FROM pg_catalog.pg_namespace AS s WHERE s.oid ${eq} e.extnamespace)`,
          relocatable: "e.extrelocatable"
        },
        "pg_catalog.pg_extension AS e"
      )
    ),
    named("neonVersion", versionOf("neon")),
    named("healthCheck", "pg_catalog.to_regclass('public.health_check') IS NOT NULL"),
    named(
      "auditSilenced",
      `EXISTS (SELECT FROM pg_catalog.pg_db_role_setting AS c, pg_catalog.pg_database AS d` +
        ` WHERE c.setdatabase ${eq} d.oid AND c.setrole ${eq} 0::pg_catalog.oid` +
        ` AND d.datname ${eq} 'postgres'::pg_catalog.name` +
        ` AND 'pgaudit.log=none'::pg_catalog.text ${eq} ANY (c.setconfig))`
    ),
    named("migration", maybe("neon_migration.migration_id", { id: "t.id" })),
    named("dropped", maybe("neon.drop_subscriptions_done", { timeline: "t.timeline_id" })),
    named(
      "state",
      maybe(stateTable, {
        database: "t.database::pg_catalog.int8",
        timeline: "t.timeline_id",
        fingerprint: "t.fingerprint",
        deltas: "t.delta_operations",
        unfinished: "t.unfinished"
      })
    ),
    ...(desired.lakebase ? [named("databricks", databricks())] : [])
  ]
  return `SELECT pg_catalog.json_build_object(${members.join(", ")})::pg_catalog.text`
}

/** All rights on what the admin role makes in schema `public`, with grant option. `kind`: `r` tables, `S` sequences. */
const defaultsHold = (kind: "r" | "S", role: string): string =>
  `NOT EXISTS (SELECT a.privilege_type FROM pg_catalog.aclexplode(pg_catalog.acldefault('${kind.toLowerCase()}', me.oid)) AS a` +
  ` WHERE a.grantee ${eq} me.oid EXCEPT SELECT g.privilege_type` +
  ` FROM pg_catalog.pg_default_acl AS f, pg_catalog.aclexplode(f.defaclacl) AS g` +
  ` WHERE f.defaclrole ${eq} me.oid AND f.defaclnamespace ${eq} pub.oid AND f.defaclobjtype ${eq} '${kind}'::pg_catalog."char"` +
  ` AND g.is_grantable AND g.grantee ${eq} (SELECT oid FROM pg_catalog.pg_authid AS n WHERE n.rolname ${eq} ${role}::pg_catalog.name))`

/** Reads the inside of the database that it runs in. */
export const contentsQuery = (privilegedRole: string): string => {
  const role = literal(privilegedRole)
  const members = [
    noDeadline,
    named("publicOwner", nameOf("pub.nspowner")),
    named("defaultTables", defaultsHold("r", role)),
    named("defaultSequences", defaultsHold("S", role)),
    named(
      "webAccessLacksCreate",
      `EXISTS (SELECT FROM pg_catalog.pg_authid AS w WHERE w.rolname ${eq} 'web_access'::pg_catalog.name` +
        ` AND NOT pg_catalog.has_schema_privilege(w.oid, pub.oid, 'CREATE'))`
    ),
    named("extensions", rows({ name: "e.extname", version: "e.extversion" }, "pg_catalog.pg_extension AS e"))
  ]
  return (
    `SELECT pg_catalog.json_build_object(${members.join(", ")})::pg_catalog.text` +
    ` FROM pg_catalog.pg_authid AS me LEFT JOIN pg_catalog.pg_namespace AS pub ON pub.nspname ${eq} 'public'::pg_catalog.name` +
    ` WHERE me.rolname ${eq} CURRENT_USER`
  )
}
