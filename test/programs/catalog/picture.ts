/** A picture of the catalogs in the form of the recordings: lines of values joined by `|`, sorted. */
import * as Effect from "effect/Effect"
import { type Cluster, major } from "../../support/postgres.ts"

/** Sections by name. */
export type Picture = Readonly<Record<string, ReadonlyArray<string>>>

const lines = (columns: ReadonlyArray<string>, rest: string): string =>
  `SELECT ${columns.map((column) => `COALESCE((${column})::text, 'NULL')`).join(" || '|' || ")} FROM ${rest}`

const flags = (names: ReadonlyArray<string>) => names.map((name) => `CASE WHEN ${name} THEN 't' ELSE 'f' END`)

const acl = (column: string) =>
  `SELECT array_agg(a::text ORDER BY a::text LIKE '=%' DESC, a::text COLLATE "C") FROM unnest(${column}) AS a`

const role = (oid: string) => `SELECT rolname FROM pg_authid WHERE oid = ${oid}`

/** Settings that a role or a database has by itself. */
const settings = (of: string, other: string) =>
  `SELECT setconfig FROM pg_db_role_setting AS c WHERE c.${of} = x.oid AND c.${other} = 0`

const everywhere = {
  roles: lines(
    [
      "rolname",
      ...flags(["rolsuper", "rolinherit", "rolcreaterole", "rolcreatedb"]),
      ...flags(["rolcanlogin", "rolreplication", "rolbypassrls"]),
      "rolconnlimit",
      "rolpassword",
      "NULLIF(rolvaliduntil, 'infinity')",
      settings("setrole", "setdatabase")
    ],
    "pg_authid AS x"
  ),
  memberships: lines([role("roleid"), role("member"), role("grantor"), ...flags(["admin_option"])], "pg_auth_members"),
  databases: lines(
    [
      "datname",
      role("datdba"),
      "pg_encoding_to_char(encoding)",
      "datcollate",
      "datctype",
      ...flags(["datistemplate", "datallowconn"]),
      "datconnlimit",
      acl("datacl"),
      settings("setdatabase", "setrole")
    ],
    "pg_database AS x"
  )
}

/** What the recordings do not have; only compared with itself. */
const more = {
  "membership options": lines(
    [role("roleid"), role("member"), ...(major < 16 ? [] : flags(["inherit_option", "set_option"]))],
    "pg_auth_members"
  ),
  "role settings by database": lines(
    [role("setrole"), "SELECT datname FROM pg_database WHERE oid = setdatabase", "setconfig"],
    "pg_db_role_setting WHERE setrole <> 0 AND setdatabase <> 0"
  )
}

const foreign = "nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg_toast%'"

const inside = {
  schemas: lines(
    ["nspname", role("nspowner"), acl("nspacl")],
    "pg_namespace WHERE nspname NOT LIKE 'pg_toast%' AND nspname NOT LIKE 'pg_temp%'"
  ),
  "default privileges": lines(
    [
      role("defaclrole"),
      "SELECT nspname FROM pg_namespace WHERE oid = defaclnamespace",
      "defaclobjtype",
      acl("defaclacl")
    ],
    "pg_default_acl"
  ),
  extensions: lines(
    ["extname", "extversion", "nspname", role("extowner"), ...flags(["extrelocatable"])],
    "pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace"
  ),
  relations: lines(
    ["nspname", "relname", "relkind", role("relowner"), acl("relacl")],
    `pg_class JOIN pg_namespace AS n ON n.oid = relnamespace WHERE relkind IN ('r', 'S', 'v') AND ${foreign}`
  ),
  functions: lines(
    ["nspname", "p.oid::regprocedure", role("proowner"), acl("proacl")],
    `pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace WHERE proacl IS NOT NULL OR ${foreign}`
  ),
  subscriptions: lines(
    ["subname", role("subowner"), ...flags(["subenabled"])],
    "pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
  )
}

const service = {
  "migration table": ["neon_migration.migration_id", lines(["key", "id"], "neon_migration.migration_id")],
  "drop subscriptions record": [
    "neon.drop_subscriptions_done",
    lines(["id", "timeline_id"], "neon.drop_subscriptions_done")
  ],
  "health check rows": ["public.health_check", lines(["id"], "public.health_check")]
} as const

/** Everything that can be seen in the catalogs of a cluster. */
export const takePicture = Effect.fnUntraced(function* ({ column, query }: Pick<Cluster, "column" | "query">) {
  const picture: Record<string, ReadonlyArray<string>> = {}
  const look = Effect.fnUntraced(function* (
    sections: Readonly<Record<string, string>>,
    name: (what: string) => string,
    database?: string
  ) {
    const answers = yield* query(Object.values(sections).join(";\n"), database)
    for (const [index, what] of Object.keys(sections).entries()) {
      picture[name(what)] = (answers[index]?.rows ?? []).map(([line]) => line ?? "").toSorted()
    }
  })
  yield* look({ ...everywhere, ...more }, (what) => what)
  for (const database of yield* column("SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2")) {
    if (database !== null) yield* look(inside, (what) => `${what} in ${database}`, database)
  }
  for (const [what, [table, query]] of Object.entries(service)) {
    const [found] = yield* column(`SELECT to_regclass('${table}')`)
    picture[what] = found === null ? ["(no such table)"] : (yield* column(query)).map((line) => line ?? "")
  }
  return picture
})

/** Without what only a comparison with itself can look at. */
export const recorded = (picture: Picture): Picture =>
  Object.fromEntries(Object.entries(picture).filter(([section]) => !(section in more)))
