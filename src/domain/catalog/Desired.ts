/**
 * What the document asks of the catalogs, checked and in the form that the plan works on.
 *
 * Whatever the server would truncate, hash again or refuse later is refused here, naming the field, before anything is
 * sent. Source: reference/catalog §2.1, §7.5, §9, traps 10–14, 41–42.
 */
import * as Data from "effect/Data"
import * as Result from "effect/Result"
import { type ComputeSpec, findSetting, type GenericOption } from "../ComputeSpec.ts"

/** The document cannot be brought into the catalogs. `field` is its path below the spec. */
export class InvalidCatalog extends Data.TaggedError("InvalidCatalog")<{
  readonly field: string
  readonly problem: string
}> {
  override get message(): string {
    return `${this.field}: ${this.problem}`
  }
}

type Checked<A> = Result.Result<A, InvalidCatalog>

export interface DesiredRole {
  readonly name: string
  /** As the server stores it; undefined: no password. */
  readonly verifier: string | undefined
  readonly options: ReadonlyArray<GenericOption>
  /** A role that JWTs log in as: no attributes, no membership. */
  readonly jwks: boolean
}

export interface DesiredDatabase {
  readonly name: string
  readonly owner: string
  readonly options: ReadonlyArray<GenericOption>
}

export type Delta =
  | { readonly _tag: "DeleteDatabase"; readonly name: string }
  | { readonly _tag: "RenameDatabase"; readonly name: string; readonly newName: string }
  | { readonly _tag: "DeleteRole"; readonly name: string }
  | { readonly _tag: "RenameRole"; readonly name: string; readonly newName: string }

export interface Desired {
  /** Matches `^[a-z_]+$`. */
  readonly privilegedRole: string
  /** `REPLICATION` is among the attributes of the privileged role; not in lakebase mode. */
  readonly privilegedReplication: boolean
  /** Roles, grants and extensions of Databricks' Lakebase, too. */
  readonly lakebase: boolean
  /** In the order of the document, no name twice. */
  readonly roles: ReadonlyArray<DesiredRole>
  readonly databases: ReadonlyArray<DesiredDatabase>
  readonly deltas: ReadonlyArray<Delta>
  /** Whom the record of dropped subscriptions and the fingerprints belong to. */
  readonly timelineId: string
  readonly dropSubscriptions: boolean
  /** Extensions that the document asks for in the system database. */
  readonly extensions: ReadonlyArray<"pg_stat_statements" | "pgaudit" | "pgauditlogtofile">
}

export interface DesiredOptions {
  readonly privilegedRole: string
  readonly lakebase: boolean
  readonly timelineId: string
}

const invalid = (field: string, problem: string) => Result.fail(new InvalidCatalog({ field, problem }))

/** Longest name that the server keeps whole, in bytes of UTF-8. */
export const maxNameBytes = 63

const encoder = new TextEncoder()

const checkName = (field: string, name: string): Checked<string> => {
  if (name === "") return invalid(field, "a name cannot be empty")
  if (name.includes("\0")) return invalid(field, "a name cannot contain NUL")
  if (!name.isWellFormed()) return invalid(field, "a name cannot contain half of a surrogate pair")
  const bytes = encoder.encode(name).length
  return bytes > maxNameBytes
    ? invalid(field, `${bytes} bytes are too long for a name, the limit is ${maxNameBytes}`)
    : Result.succeed(name)
}

const checkOptions = (field: string, options: ReadonlyArray<GenericOption>): Checked<ReadonlyArray<GenericOption>> => {
  const bad = options.findIndex(({ name, value }) => {
    const text = name + (value ?? "")
    return text.includes("\0") || !text.isWellFormed()
  })
  return bad < 0 ? Result.succeed(options) : invalid(`${field}[${bad}]`, "an option cannot contain NUL")
}

/** Salt and keys in whole groups of base64, as the server wants them: it takes anything else for a password. */
const scram =
  /^SCRAM-SHA-256\$[1-9][0-9]{0,9}:(?!\$)(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$/u

/** What the server stores for it. Any other text would be taken for a password and hashed. */
const checkVerifier = (field: string, text: string): Checked<string> => {
  if (scram.test(text)) return Result.succeed(text)
  const digest = /^(?:md5)?([0-9a-f]{32})$/iu.exec(text)?.[1]
  return digest === undefined
    ? invalid(field, "expected a SCRAM-SHA-256 verifier or the 32 hex digits of an md5 digest")
    : Result.succeed(`md5${digest.toLowerCase()}`)
}

/** The first entry of each name; another one has to say the same. */
const distinct = <A extends { readonly name: string }>(field: string, entries: ReadonlyArray<A>): Checked<Array<A>> => {
  const found = new Map<string, readonly [number, A]>()
  for (const [index, entry] of entries.entries()) {
    const earlier = found.get(entry.name)
    if (earlier === undefined) found.set(entry.name, [index, entry])
    else if (JSON.stringify(earlier[1]) !== JSON.stringify(entry)) {
      return invalid(`${field}[${index}].name`, `the same name as ${field}[${earlier[0]}], with other members`)
    }
  }
  return Result.succeed([...found.values()].map(([, entry]) => entry))
}

const roles = (spec: ComputeSpec): Checked<Array<DesiredRole>> =>
  Result.gen(function* () {
    const jwks = new Set(spec.local_proxy_config?.jwks?.flatMap(({ role_names }) => role_names) ?? [])
    const read: Array<DesiredRole> = []
    for (const [index, role] of spec.cluster.roles.entries()) {
      const at = `cluster.roles[${index}]`
      const password = role.encrypted_password ?? undefined
      read.push({
        name: yield* checkName(`${at}.name`, role.name),
        verifier: password === undefined ? undefined : yield* checkVerifier(`${at}.encrypted_password`, password),
        options: yield* checkOptions(`${at}.options`, role.options ?? []),
        jwks: jwks.has(role.name)
      })
    }
    return yield* distinct("cluster.roles", read)
  })

const databases = (spec: ComputeSpec): Checked<Array<DesiredDatabase>> =>
  Result.gen(function* () {
    const read: Array<DesiredDatabase> = []
    for (const [index, database] of spec.cluster.databases.entries()) {
      const at = `cluster.databases[${index}]`
      read.push({
        name: yield* checkName(`${at}.name`, database.name),
        owner: yield* checkName(`${at}.owner`, database.owner),
        options: yield* checkOptions(`${at}.options`, database.options ?? [])
      })
    }
    return yield* distinct("cluster.databases", read)
  })

const deltas = (spec: ComputeSpec, privilegedRole: string): Checked<Array<Delta>> =>
  Result.gen(function* () {
    const ordinaryRole = (field: string, name: string): Checked<string> =>
      name === privilegedRole
        ? invalid(field, `${name} is the privileged role, it can be neither deleted nor renamed`)
        : checkName(field, name)
    const read: Array<Delta> = []
    for (const [index, { action, name, new_name }] of (spec.delta_operations ?? []).entries()) {
      const at = `delta_operations[${index}]`
      const newName = (): Checked<string> =>
        new_name === undefined || new_name === null
          ? invalid(`${at}.new_name`, `${action} needs a new name`)
          : checkName(`${at}.new_name`, new_name)
      switch (action) {
        case "delete_db":
          read.push({ _tag: "DeleteDatabase", name: yield* checkName(`${at}.name`, name) })
          break
        case "delete_role":
          read.push({ _tag: "DeleteRole", name: yield* ordinaryRole(`${at}.name`, name) })
          break
        case "rename_db":
          read.push({
            _tag: "RenameDatabase",
            name: yield* checkName(`${at}.name`, name),
            newName: yield* newName()
          })
          break
        case "rename_role":
          read.push({ _tag: "RenameRole", name: yield* ordinaryRole(`${at}.name`, name), newName: yield* newName() })
          break
      }
    }
    return read
  })

const extensions = (spec: ComputeSpec): Desired["extensions"] => {
  const statements = findSetting(spec, "shared_preload_libraries")?.includes("pg_stat_statements") ?? false
  const audit = ((): Desired["extensions"] => {
    switch (spec.audit_log_level) {
      case "Disabled":
        return []
      case "Log":
      case "Base":
        return ["pgaudit"]
      case "Hipaa":
      case "Extended":
      case "Full":
        return ["pgaudit", "pgauditlogtofile"]
    }
  })()
  return [...(statements ? (["pg_stat_statements"] as const) : []), ...audit]
}

/** Reads the document. Fails with the first `InvalidCatalog`. */
export const fromSpec = (spec: ComputeSpec, options: DesiredOptions): Checked<Desired> =>
  Result.gen(function* () {
    return {
      privilegedRole: options.privilegedRole,
      privilegedReplication: !options.lakebase,
      lakebase: options.lakebase,
      roles: yield* roles(spec),
      databases: yield* databases(spec),
      deltas: yield* deltas(spec, options.privilegedRole),
      timelineId: options.timelineId,
      dropSubscriptions: spec.drop_subscriptions_before_start,
      extensions: extensions(spec)
    }
  })
