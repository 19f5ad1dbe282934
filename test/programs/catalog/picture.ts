/** A picture of the catalogs in the form of the recordings: lines of values joined by `|`, sorted. */
import * as Effect from "effect/Effect"
import { Server } from "./server.ts"

const lines = (columns: ReadonlyArray<string>, rest: string): string =>
  `SELECT ${columns.map((column) => `COALESCE(${column}, 'NULL')`).join(" || '|' || ")} FROM ${rest}`

const flags = (names: ReadonlyArray<string>) => names.map((name) => `CASE WHEN ${name} THEN 't' ELSE 'f' END`)

const acl = (column: string) =>
  `(SELECT array_agg(a::text ORDER BY a::text LIKE '=%' DESC, a::text COLLATE "C")::text FROM unnest(${column}) AS a)`

const roles = lines(
  [
    "rolname",
    ...flags([
      "rolsuper",
      "rolinherit",
      "rolcreaterole",
      "rolcreatedb",
      "rolcanlogin",
      "rolreplication",
      "rolbypassrls"
    ]),
    "rolconnlimit::text",
    "rolpassword",
    "rolvaliduntil::text",
    "'NULL'"
  ],
  "pg_authid"
)

const memberships = lines(
  ["r.rolname", "m.rolname", "g.rolname", ...flags(["a.admin_option"])],
  "pg_auth_members a, pg_authid r, pg_authid m, pg_authid g WHERE r.oid = a.roleid AND m.oid = a.member AND g.oid = a.grantor"
)

const databases = lines(
  [
    "datname",
    "(SELECT rolname FROM pg_authid WHERE oid = datdba)",
    "pg_encoding_to_char(encoding)",
    "datcollate",
    "datctype",
    ...flags(["datistemplate", "datallowconn"]),
    "datconnlimit::text",
    acl("datacl"),
    "'NULL'"
  ],
  "pg_database"
)

const owner = (column: string) => `(SELECT rolname FROM pg_authid WHERE oid = ${column})`

const inside = {
  schemas: lines(
    ["nspname", owner("nspowner"), acl("nspacl")],
    "pg_namespace WHERE nspname NOT LIKE 'pg_toast%' AND nspname NOT LIKE 'pg_temp%'"
  ),
  "default privileges": lines(
    [
      owner("defaclrole"),
      "(SELECT nspname FROM pg_namespace WHERE oid = defaclnamespace)",
      "defaclobjtype::text",
      acl("defaclacl")
    ],
    "pg_default_acl"
  ),
  relations: lines(
    ["nspname", "relname", "relkind::text", owner("relowner"), acl("relacl")],
    "pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r','S','v')" +
      " AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg_toast%'"
  )
}

/** Sections by the names of the recordings, as far as they can be compared between versions. */
export const takePicture = Effect.gen(function* () {
  const { column } = yield* Server
  const read = (text: string, database?: string) =>
    Effect.map(column(text, database), (values) => values.map((value) => value ?? "").toSorted())
  const sections = new Map<string, ReadonlyArray<string>>()
  sections.set("roles", yield* read(roles))
  sections.set("memberships", yield* read(memberships))
  sections.set("databases", yield* read(databases))
  for (const database of yield* column("SELECT datname FROM pg_database WHERE datallowconn")) {
    for (const [what, query] of Object.entries(inside)) {
      sections.set(`${what} in ${database}`, yield* read(query, database ?? ""))
    }
  }
  sections.set("health check rows", yield* read("SELECT id::text FROM public.health_check"))
  return sections
})
