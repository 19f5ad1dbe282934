/**
 * A spec with its fallbacks resolved and its promises checked: the only form in which the programs see one.
 *
 * The first failure is the one reported; the order of the checks and their texts are part of the interface.
 * Source: reference/compute-spec §9, §11. Differs: entries of lists are trimmed, empty ones and empty addresses are
 * refused, and a `g#<n>:` prefix of the setting `neon.safekeepers` is understood.
 */
import * as Data from "effect/Data"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { type ComputeSpec, findSetting } from "./ComputeSpec.ts"
import { TenantId, TimelineId } from "./Identifiers.ts"
import * as Lsn from "./Lsn.ts"
import * as PageserverConnection from "./PageserverConnection.ts"

export interface ParsedSpec {
  readonly spec: ComputeSpec
  readonly tenantId: TenantId
  readonly timelineId: TimelineId
  readonly pageserver: PageserverConnection.PageserverConnectionInfo
  /** `host:port` each. */
  readonly safekeepers: ReadonlyArray<string>
  readonly storageAuthToken: Redacted.Redacted<string> | undefined
  /** `host:port`, no scheme. */
  readonly endpointStorageAddr: string | undefined
  readonly endpointStorageToken: Redacted.Redacted<string> | undefined
}

/** The spec cannot be served. `field` is the member or setting; the message of `/configure` is `message` alone. */
export class InvalidSpec extends Data.TaggedError("InvalidSpec")<{
  readonly field: string
  readonly message: string
  readonly cause?: unknown
}> {}

type Parsed<A> = Result.Result<A, InvalidSpec>

const invalid = (field: string, message: string, cause?: Error): Result.Result<never, InvalidSpec> =>
  Result.fail(new InvalidSpec({ field, message, ...(cause === undefined ? {} : { cause }) }))

const fromConnstring = (
  field: string,
  connstring: string,
  stripeSize: number | undefined
): Parsed<PageserverConnection.PageserverConnectionInfo> =>
  Result.mapError(
    PageserverConnection.fromConnstring(field, connstring, stripeSize),
    ({ message }) => new InvalidSpec({ field, message })
  )

const pageserver = (spec: ComputeSpec): Parsed<PageserverConnection.PageserverConnectionInfo> => {
  const info = spec.pageserver_connection_info
  if (info !== undefined && info !== null) {
    const empty = PageserverConnection.emptyUrlPath(info)
    if (empty === undefined) return Result.succeed(info)
    const field = `pageserver_connection_info.${empty}`
    return invalid(field, `${field} is empty`)
  }
  const connstring = spec.pageserver_connstring
  if (connstring !== undefined && connstring !== null) {
    return fromConnstring("pageserver_connstring", connstring, spec.shard_stripe_size ?? undefined)
  }
  const setting = findSetting(spec, "neon.pageserver_connstring")
  if (setting === undefined) {
    return invalid("pageserver_connection_info", "pageserver connection information should be provided")
  }
  const stripeText = findSetting(spec, "neon.stripe_size")
  if (stripeText === undefined) return fromConnstring("neon.pageserver_connstring", setting, undefined)
  const stripeSize = PageserverConnection.parseStripeSize(stripeText)
  return Result.isFailure(stripeSize)
    ? invalid("neon.stripe_size", stripeSize.failure.message)
    : fromConnstring("neon.pageserver_connstring", setting, stripeSize.success)
}

interface Safekeepers {
  readonly field: string
  readonly entries: ReadonlyArray<string>
}

const safekeepers = (spec: ComputeSpec): Parsed<Safekeepers> => {
  if (spec.safekeeper_connstrings.length > 0 || spec.mode._tag !== "Primary") {
    const entries = spec.safekeeper_connstrings.map((entry) => entry.trim())
    return Result.succeed({ field: "safekeeper_connstrings", entries })
  }
  const setting = findSetting(spec, "neon.safekeepers")
  if (setting === undefined) return invalid("safekeeper_connstrings", "safekeeper connstrings should be provided")
  const list = setting.trim().replace(/^g#[0-9]+:/u, "")
  const entries = list === "" ? [] : list.split(",").map((entry) => entry.trim())
  return Result.succeed({ field: "neon.safekeepers", entries })
}

const checkPrimary = ({ entries, field }: Safekeepers): Parsed<void> => {
  if (entries.length === 0) return invalid(field, "safekeeper_connstrings is empty")
  const empty = entries.indexOf("")
  if (empty >= 0) return invalid(field, `${field}: entry ${empty + 1} is empty`)
  const sorted = entries.toSorted()
  const duplicate = sorted.find((entry, index) => entry === sorted[index - 1])
  return duplicate === undefined
    ? Result.void
    : invalid(field, `duplicate entry in safekeeper_connstrings: ${duplicate}!`)
}

/** What is wrong with the text of a 16-byte id, as Rust's `hex` says it. */
const idProblem = (text: string): string | undefined => {
  const bytes = new TextEncoder().encode(text)
  if (bytes.length % 2 !== 0) return "Odd number of digits"
  if (bytes.length !== 32) return "Invalid string length"
  const position = bytes.findIndex((byte) => !/[0-9a-fA-F]/u.test(String.fromCharCode(byte)))
  return position < 0
    ? undefined
    : `Invalid character '${String.fromCharCode(bytes[position] ?? 0)}' at position ${position}`
}

/** An id of the storage: the member, else the text of the setting. */
const id = <A>(
  spec: ComputeSpec,
  name: "tenant" | "timeline",
  member: A | null | undefined,
  make: (text: string) => A
): Parsed<A> => {
  if (member !== undefined && member !== null) return Result.succeed(member)
  const field = `neon.${name}_id`
  const text = findSetting(spec, field)
  if (text === undefined) return invalid(`${name}_id`, `${name} id should be provided`)
  const problem = idProblem(text)
  return problem === undefined
    ? Result.succeed(make(text.toLowerCase()))
    : invalid(field, `invalid ${name} id`, new Error(problem))
}

const secret = (text: string | null | undefined): Redacted.Redacted<string> | undefined =>
  text === undefined || text === null ? undefined : Redacted.make(text)

/** Resolves and checks a spec. Fails with the first `InvalidSpec`. */
export const parse = (spec: ComputeSpec): Result.Result<ParsedSpec, InvalidSpec> =>
  Result.gen(function* () {
    const pages = yield* pageserver(spec)
    const keepers = yield* safekeepers(spec)
    const tenantId = yield* id(spec, "tenant", spec.tenant_id, (text) => TenantId.make(text))
    const timelineId = yield* id(spec, "timeline", spec.timeline_id, (text) => TimelineId.make(text))
    if (spec.mode._tag === "Primary") yield* checkPrimary(keepers)
    return {
      spec,
      tenantId,
      timelineId,
      pageserver: pages,
      safekeepers: keepers.entries,
      storageAuthToken: secret(spec.storage_auth_token),
      endpointStorageAddr: spec.endpoint_storage_addr ?? findSetting(spec, "neon.endpoint_storage_addr"),
      endpointStorageToken: secret(spec.endpoint_storage_token ?? findSetting(spec, "neon.endpoint_storage_token"))
    }
  })

/** What a running Postgres cannot change into: names the field in which the two differ, undefined where they do not. */
export const identityMismatch = (running: ParsedSpec, wanted: ParsedSpec): string | undefined => {
  if (wanted.tenantId !== running.tenantId) return `tenant_id: this compute serves tenant ${running.tenantId}`
  if (wanted.timelineId !== running.timelineId) return `timeline_id: this compute serves timeline ${running.timelineId}`
  const mode = ({ spec }: ParsedSpec): string =>
    spec.mode._tag === "Static" ? `static at ${Lsn.format(spec.mode.lsn)}` : spec.mode._tag.toLowerCase()
  return mode(wanted) === mode(running) ? undefined : `mode: this compute is ${mode(running)}`
}
