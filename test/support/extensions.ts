/** Stand-ins for extensions, as far as SQL goes: files by their names. */

const upgrades = ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6"]

/** What the real one leaves in its schema. */
const neonObjects = [
  "CREATE TABLE lfc_stub (n pg_catalog.int4);",
  "CREATE FUNCTION get_local_cache_state() RETURNS pg_catalog.bytea LANGUAGE sql AS 'SELECT NULL::pg_catalog.bytea';",
  "CREATE FUNCTION get_prewarm_info() RETURNS pg_catalog.int4 LANGUAGE sql AS 'SELECT 1';",
  "CREATE FUNCTION prewarm_local_cache(state pg_catalog.bytea) RETURNS void LANGUAGE sql AS 'SELECT';",
  ""
].join("\n")

/** `neon` with ways between all its versions. */
const neon: ReadonlyArray<readonly [string, string]> = [
  ["neon.control", "comment = 'stand-in'\ndefault_version = '1.6'\nrelocatable = true\ntrusted = true\n"],
  ["neon--1.0.sql", neonObjects],
  ...upgrades.slice(1).flatMap(
    (next, index) =>
      [
        [`neon--${upgrades[index]}--${next}.sql`, "SELECT 1;\n"],
        [`neon--${next}--${upgrades[index]}.sql`, "SELECT 1;\n"]
      ] as const
  )
]

/** `databricks_auth` in two versions, with no way from one to the other. */
const databricksAuth: ReadonlyArray<readonly [string, string]> = [
  ["databricks_auth.control", "default_version = '1.1'\nrelocatable = true\n"],
  ...["1.0", "1.1"].map(
    (version) =>
      [`databricks_auth--${version}.sql`, "CREATE VIEW databricks_auth_metrics AS SELECT 1 AS metric;\n"] as const
  )
]

export const standIns = [...neon, ...databricksAuth]
