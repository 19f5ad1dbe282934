/**
 * Recordings of the original on PostgreSQL 15, and what they would say on another version.
 *
 * On 15 nothing is changed but for one table, which is ours alone. The differences of other versions are all here: what
 * initdb itself makes (predefined roles and their memberships, privileges of functions, owner of schema `public`) is
 * taken from the empty cluster under test, the rest is listed.
 */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { major } from "../../support/postgres.ts"
import type { Picture } from "./picture.ts"

const Sections = Schema.Record(Schema.String, Schema.Array(Schema.String))

const Recording = Schema.fromJsonString(
  Schema.Struct({
    "after start": Schema.Union([Sections, Schema.String]),
    steps: Schema.Array(
      Schema.Struct({
        document: Schema.Struct({
          roles: Schema.Array(Schema.Unknown),
          databases: Schema.Array(Schema.Unknown),
          deltas: Schema.optionalKey(Schema.Array(Schema.Unknown))
        }),
        "what differs from the step before": Schema.optionalKey(Sections),
        "sections gone": Schema.optionalKey(Schema.Array(Schema.String)),
        refused: Schema.optionalKey(Schema.Int)
      })
    )
  })
)

const read = (name: string) =>
  Effect.flatMap(
    Effect.promise(() => fs.readFile(join(import.meta.dirname, "../../golden/catalog", `${name}.json`), "utf8")),
    Schema.decodeUnknownEffect(Recording)
  )

const withStart = "roles-and-databases"

export interface Step {
  readonly document: (typeof Recording.Type)["steps"][number]["document"]
  readonly refused: boolean
  /** The catalogs afterwards. */
  readonly picture: Picture
}

/** A recording, each step with all sections. */
export const recording = Effect.fnUntraced(function* (name: string) {
  const { "after start": start } = yield* read(withStart)
  const { steps } = yield* read(name)
  let picture: Picture = typeof start === "string" ? {} : start
  const first = picture
  const whole = steps.map((step): Step => {
    const gone = new Set(step["sections gone"] ?? [])
    const merged = { ...picture, ...step["what differs from the step before"] }
    picture = Object.fromEntries(Object.entries(merged).filter(([section]) => !gone.has(section)))
    return { document: step.document, refused: step.refused !== undefined, picture }
  })
  return { start: first, steps: whole }
})

/** The table that remembers what was applied. */
const ours = "neon_migration|catalog_state|r|cloud_admin|NULL"

/** Made by initdb: a predefined role, what it is a member of, a function of the server. */
const isInitdb = (kind: string, line: string): boolean => {
  if (kind === "roles") return line.startsWith("pg_")
  if (kind === "memberships") return /^pg_\w+\|pg_/u.test(line)
  return kind === "functions" && line.startsWith("pg_catalog|")
}

/** Functions of the server that migrations give to the privileged role, by the database that they run in. */
const granted = (line: string): string =>
  [
    "pg_catalog|pg_show_replication_origin_status()|",
    ...(major < 16 ? [] : ["pg_catalog|pg_export_snapshot()|", "pg_catalog|pg_log_standby_snapshot()|"])
  ].some((start) => line.startsWith(start))
    ? line.replace(/\}$/u, ",neon_superuser=X/cloud_admin}")
    : line

/** What the empty cluster has in the place of a section. */
const counterpart = (section: string): string =>
  section.endsWith(" in postgres") ? section : section.replace(/ in .*$/su, " in template1")

const plain = /^[a-z0-9_]+$/iu

/** A privilege as the server prints it inside an array. */
const privilege = (grantee: string, rights: string, grantor: string): string => {
  const [to, by] = [grantee, grantor].map((name) =>
    name === "" || plain.test(name) ? name : `"${name.replaceAll('"', '""')}"`
  )
  const item = `${to}=${rights}/${by}`
  return /["\\{},\s]/u.test(item) ? `"${item.replace(/["\\]/gu, "\\$&")}"` : item
}

const onOther = (
  section: string,
  lines: ReadonlyArray<string>,
  empty: Picture,
  owners: ReadonlyMap<string, string>
) => {
  const [, kind = section, database = ""] = /^(.*?) in (.*)$/su.exec(section) ?? []
  const initial = (empty[counterpart(section)] ?? [])
    .filter((line) => isInitdb(kind, line))
    .map((line) => (section === "functions in postgres" ? granted(line) : line))
  const changed = lines
    .filter((line) => !isInitdb(kind, line))
    .map((line) => {
      // Before 15 schema `public` has an owner of flesh and blood: the first one of the database that is left.
      if (major < 15 && kind === "schemas" && line.startsWith("public|")) {
        const owner = owners.get(database) ?? "cloud_admin"
        return `public|${owner}|{${privilege("", "UC", owner)},${privilege(owner, "UC", owner)}}`
      }
      // Privilege MAINTAIN.
      if (major >= 17 && kind === "default privileges") return line.replace("x*t*/", "x*t*m*/")
      return line
    })
  // A membership of a role that did not exist in 15.
  const more = major >= 16 && kind === "memberships" ? ["pg_create_subscription|neon_superuser|cloud_admin|f"] : []
  // Privileges of a function that were the default ones before.
  const exported =
    major >= 16 && section === "functions in postgres"
      ? [
          "pg_catalog|pg_export_snapshot()|cloud_admin|{=X/cloud_admin,cloud_admin=X/cloud_admin,neon_superuser=X/cloud_admin}"
        ]
      : []
  return [...initial, ...changed, ...more, ...exported]
}

const ownersIn = (databases: ReadonlyArray<unknown>) =>
  databases.map((database) => [String(Object(database).name), String(Object(database).owner)] as const)

/** What our apply of the same documents, the last of which is the last, has to leave on the version under test. */
export const expected = (picture: Picture, empty: Picture, documents: ReadonlyArray<Step["document"]>): Picture => {
  const remaining = ([, owner]: readonly [string, string]) =>
    picture["roles"]?.some((line) => line.startsWith(`${owner}|`))
  const owners = new Map(documents.toReversed().flatMap(({ databases }) => ownersIn(databases).filter(remaining)))
  return Object.fromEntries(
    Object.entries(picture).map(([section, lines]) => {
      const made = major === 15 ? lines : onOther(section, lines, empty, owners)
      return [section, (section === "relations in postgres" ? [...made, ours] : made).toSorted()]
    })
  )
}
