/**
 * The SQL of each change.
 *
 * All names in bodies are qualified and all operators are `pg_catalog`'s, so that nothing that users plant in a search
 * path is called. Source: reference/catalog §7.5, §8–§12, §14.
 */
import type { Change } from "./Change.ts"
import type { DesiredRole } from "./Desired.ts"
import { block, dollarQuote, identifier, literal, optionList } from "./quoting.ts"
import * as State from "./stateTable.ts"

export interface Statement {
  readonly text: string
  /** For people: it holds no verifier. */
  readonly shown: string
}

const plain = (text: string): Statement => ({ text, shown: text })

/** `<options> LOGIN PASSWORD …`, with a leading space when there are no options. */
const roleOptions = ({ options, verifier }: DesiredRole): Statement => {
  const start = `${optionList(options)} LOGIN PASSWORD`
  return verifier === undefined
    ? plain(`${start} NULL`)
    : { text: `${start} ${literal(verifier)}`, shown: `${start} '********'` }
}

const roleStatement = (start: string, role: DesiredRole): Statement => {
  const { text, shown } = roleOptions(role)
  return { text: `${start} ${text}`, shown: `${start} ${shown}` }
}

const dropSubscriptions = (database: string): string =>
  block(
    `DECLARE s pg_catalog.text; BEGIN` +
      ` LOCK TABLE pg_catalog.pg_subscription IN ACCESS EXCLUSIVE MODE;` +
      ` FOR s IN SELECT subname FROM pg_catalog.pg_subscription WHERE subdbid OPERATOR(pg_catalog.=)` +
      ` (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) ${dollarQuote(database)}::pg_catalog.name)` +
      ` LOOP EXECUTE pg_catalog.format('ALTER SUBSCRIPTION %I DISABLE', s);` +
      ` EXECUTE pg_catalog.format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', s);` +
      ` EXECUTE pg_catalog.format('DROP SUBSCRIPTION %I', s); END LOOP; END`
  )

/**
 * Takes back what others than the owner of an object have granted: `DROP OWNED` leaves that alone. Runs as each grantor
 * in turn and comes back, because the transaction goes on.
 */
const revokeGrants = (role: string): string => {
  const grants = (catalog: string, acl: string, kind: string, owner: string, schema: string, more = "") =>
    `SELECT ${kind} AS kind, o.${schema} AS schema, a.grantor FROM ${catalog} AS o, pg_catalog.aclexplode(${acl}) AS a` +
    ` WHERE a.grantee OPERATOR(pg_catalog.=) me AND a.grantor OPERATOR(pg_catalog.<>) o.${owner}${more}`
  const relationKind = `CASE o.relkind WHEN 'S'::pg_catalog."char" THEN 'SEQUENCES' ELSE 'TABLES' END`
  return block(
    `DECLARE me pg_catalog.oid := (SELECT oid FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) ${dollarQuote(role)}::pg_catalog.name);` +
      ` admin pg_catalog.text := CURRENT_USER; g pg_catalog.record; BEGIN` +
      ` FOR g IN SELECT DISTINCT x.kind, n.nspname, r.rolname FROM (` +
      [
        grants("pg_catalog.pg_class", "o.relacl", relationKind, "relowner", "relnamespace"),
        `SELECT 'TABLES', o.relnamespace, a.grantor FROM pg_catalog.pg_class AS o, pg_catalog.pg_attribute AS c,` +
          ` pg_catalog.aclexplode(c.attacl) AS a WHERE c.attrelid OPERATOR(pg_catalog.=) o.oid` +
          ` AND a.grantee OPERATOR(pg_catalog.=) me AND a.grantor OPERATOR(pg_catalog.<>) o.relowner`,
        grants("pg_catalog.pg_proc", "o.proacl", "'ROUTINES'", "proowner", "pronamespace")
      ].join(" UNION ALL ") +
      `) AS x, pg_catalog.pg_namespace AS n, pg_catalog.pg_authid AS r` +
      ` WHERE n.oid OPERATOR(pg_catalog.=) x.schema AND r.oid OPERATOR(pg_catalog.=) x.grantor` +
      ` LOOP EXECUTE pg_catalog.format('SET LOCAL ROLE %I', g.rolname);` +
      ` EXECUTE pg_catalog.format('REVOKE ALL PRIVILEGES ON ALL %s IN SCHEMA %I FROM %I GRANTED BY %I CASCADE',` +
      ` g.kind, g.nspname, ${dollarQuote(role)}, g.rolname);` +
      ` EXECUTE pg_catalog.format('SET LOCAL ROLE %I', admin); END LOOP; END`
  )
}

/** What the role needs to watch the server; the counters come with later versions of the extension. */
const grantMonitor = (role: string): ReadonlyArray<string> => {
  const to = `TO ${identifier(role)}`
  const ifThere = (found: string, grant: string) =>
    `IF ${found} IS NOT NULL THEN EXECUTE ${literal(`GRANT ${grant} ${to}`)}; END IF;`
  return [
    `GRANT USAGE ON SCHEMA neon ${to}`,
    `GRANT SELECT, INSERT, UPDATE ON public.health_check ${to}`,
    `GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(pg_catalog.text) ${to}`,
    block(
      `BEGIN ${ifThere("pg_catalog.to_regclass('neon.neon_perf_counters')", "SELECT ON neon.neon_perf_counters")}` +
        ` ${ifThere("pg_catalog.to_regprocedure('neon.get_perf_counters()')", "EXECUTE ON FUNCTION neon.get_perf_counters()")} END`
    )
  ]
}

const renameRole = (name: string, newName: string): string =>
  `ALTER ROLE ${identifier(name)} RENAME TO ${identifier(newName)}`

const render = (change: Change): ReadonlyArray<string | Statement> => {
  switch (change._tag) {
    case "CreatePrivilegedRole":
      return [
        `CREATE ROLE ${identifier(change.role)} CREATEDB CREATEROLE NOLOGIN ${change.replication ? "REPLICATION " : ""}BYPASSRLS` +
          " IN ROLE pg_read_all_data, pg_write_all_data"
      ]
    case "AlterPrivilegedRole":
      return [`ALTER ROLE ${identifier(change.role)} ${change.clauses.join(" ")}`]
    case "GrantMembership": {
      const admin = change.admin ? " WITH ADMIN OPTION" : ""
      const options = change.options ? ` WITH ADMIN ${change.admin}, INHERIT TRUE, SET TRUE` : admin
      return [`GRANT ${identifier(change.role)} TO ${identifier(change.member)}${options}`]
    }
    case "RevokeMembership": {
      const by = change.grantor === undefined ? "" : ` GRANTED BY ${identifier(change.grantor)}`
      const what = change.adminOnly ? "ADMIN OPTION FOR " : ""
      return [`REVOKE ${what}${identifier(change.role)} FROM ${identifier(change.member)}${by} CASCADE`]
    }
    case "RenameRole":
      return [renameRole(change.role, change.newName)]
    case "RenameRoles":
      return [
        ...change.renames.map(({ name, newName }) => renameRole(name, newName)),
        ...remembered(change.remember.database, change.remember)
      ]
    case "CreateRole": {
      const start = `CREATE ROLE ${identifier(change.role.name)}`
      return [
        roleStatement(
          change.role.jwks
            ? start
            : `${start} INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION IN ROLE ${identifier(change.privilegedRole)}`,
          change.role
        )
      ]
    }
    case "AlterRole":
      return [roleStatement(`ALTER ROLE ${identifier(change.role.name)}`, change.role)]
    case "DropRole":
      return [`DROP ROLE IF EXISTS ${identifier(change.role)}`]
    case "DisownRole":
      return [
        `REASSIGN OWNED BY ${identifier(change.role)} TO ${identifier(change.newOwner)}`,
        revokeGrants(change.role),
        `DROP OWNED BY ${identifier(change.role)}`
      ]
    case "AllowConnections":
      return [`ALTER DATABASE ${identifier(change.database)} ALLOW_CONNECTIONS true`]
    case "DropSubscriptions":
      return [dropSubscriptions(change.database)]
    case "DropInvalidDatabase":
      return [`DROP DATABASE IF EXISTS ${identifier(change.database)}`]
    case "UntemplateDatabase":
      return [`ALTER DATABASE ${identifier(change.database)} IS_TEMPLATE false`]
    case "DropDatabase":
      return [`DROP DATABASE IF EXISTS ${identifier(change.database)} WITH (FORCE)`]
    case "RenameDatabase":
      return [
        `ALTER DATABASE ${identifier(change.database)} RENAME TO ${identifier(change.newName)}`,
        ...remembered(change.newName, change.remember)
      ]
    case "AlterDatabaseOwner":
      return [
        `ALTER DATABASE ${identifier(change.database)} OWNER TO ${identifier(change.owner)}`,
        ...(change.forget ? [State.forgetContents(change.database)] : [])
      ]
    case "BeginDatabases":
      return [State.rememberUnfinished(change.timelineId, change.systemDatabase, change.databases)]
    case "CreateDatabase": {
      const { name, options, owner } = change.database
      const words = [optionList(options), `OWNER ${identifier(owner)}`].filter((part) => part !== "")
      return [`CREATE DATABASE ${identifier(name)} ${words.join(" ")}`]
    }
    case "FinishDatabase":
      return [
        `GRANT ALL PRIVILEGES ON DATABASE ${identifier(change.database)} TO ${identifier(change.privilegedRole)}`,
        ...remembered(change.database, change.remember)
      ]
    case "EndDatabases":
      return [State.forgetUnfinished(change.databases)]
    case "PrepareState":
      return State.prepareState(change.admin)
    case "CreateSchemaNeon":
      return ["CREATE SCHEMA IF NOT EXISTS neon"]
    case "OwnPublicSchema":
      return [`ALTER SCHEMA public OWNER TO ${identifier(change.owner)}`]
    case "GrantWebAccess":
      return ["GRANT CREATE ON SCHEMA public TO web_access"]
    case "DefaultPrivileges":
      return [
        `ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON ${change.objects} TO ${identifier(change.privilegedRole)} WITH GRANT OPTION`
      ]
    case "CreateExtension":
      return [`CREATE EXTENSION IF NOT EXISTS ${identifier(change.extension)} WITH SCHEMA ${identifier(change.schema)}`]
    case "RelocateNeon":
      return [
        ...(change.relocatable
          ? []
          : [
              "UPDATE pg_catalog.pg_extension SET extrelocatable = true WHERE extname OPERATOR(pg_catalog.=) 'neon' AND NOT extrelocatable"
            ]),
        "ALTER EXTENSION neon SET SCHEMA neon"
      ]
    case "UpdateExtension":
      return [`ALTER EXTENSION ${identifier(change.extension)} UPDATE`]
    case "CreateHealthCheck":
      return [
        "CREATE TABLE IF NOT EXISTS public.health_check (id pg_catalog.int4 PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY," +
          " updated_at pg_catalog.timestamptz DEFAULT pg_catalog.now())",
        "INSERT INTO public.health_check VALUES (1, pg_catalog.now()) ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at"
      ]
    case "CreateHealthFunction":
      return [
        "CREATE OR REPLACE FUNCTION public.health_check_write_succeeds() RETURNS pg_catalog.int4 LANGUAGE sql AS" +
          " $x$ INSERT INTO public.health_check VALUES (1, pg_catalog.now())" +
          " ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at; SELECT 1 $x$"
      ]
    case "CreateServiceRole":
      return [`CREATE ROLE ${identifier(change.role)} ${change.options}`]
    case "SetRoleTimeout":
      return [`ALTER ROLE ${identifier(change.role)} SET statement_timeout TO ${literal(change.value)}`]
    case "RecreateDatabricksAuth":
      return [
        "DROP EXTENSION IF EXISTS databricks_auth",
        "CREATE EXTENSION databricks_auth WITH SCHEMA public",
        "GRANT SELECT ON public.databricks_auth_metrics TO pg_monitor"
      ]
    case "GrantMonitor":
      return grantMonitor(change.role)
    case "RecordSubscriptionsDropped":
      return [
        "CREATE TABLE IF NOT EXISTS neon.drop_subscriptions_done (id pg_catalog.int4 PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY," +
          " timeline_id pg_catalog.text)",
        `INSERT INTO neon.drop_subscriptions_done VALUES (1, ${literal(change.timelineId)})` +
          " ON CONFLICT (id) DO UPDATE SET timeline_id = excluded.timeline_id"
      ]
    case "SilenceAudit":
      return ["ALTER DATABASE postgres SET pgaudit.log TO 'none'"]
    case "RememberContents":
      return State.rememberDatabases(change.timelineId, change.fingerprints)
    case "RememberDeltas":
      return [State.rememberDeltas(change.timelineId, change.database, change.deltas)]
  }
}

const remembered = (
  database: string,
  remember: { readonly timelineId: string; readonly deltas: string } | undefined
): ReadonlyArray<string> =>
  remember === undefined ? [] : [State.rememberDeltas(remember.timelineId, database, remember.deltas)]

/** In their order; several of them are one transaction. */
export const statements = (change: Change): ReadonlyArray<Statement> =>
  render(change).map((statement) => (typeof statement === "string" ? plain(statement) : statement))
