/**
 * Where the pages come from: addresses of the pageservers, shard by shard.
 *
 * Source: reference/compute-spec §8. Differs: an empty address is refused where it stands, and blanks around the
 * addresses of a list are dropped.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { optional, u8, u32 } from "./wire.ts"

export const PageserverProtocol = Schema.Literals(["libpq", "grpc"]).annotate({ identifier: "PageserverProtocol" })
export type PageserverProtocol = typeof PageserverProtocol.Type

/** One server of a shard. */
export const PageserverShardConnectionInfo = Schema.Struct({
  id: optional(Schema.Natural),
  /** URL, or `key=value` text. */
  libpq_url: optional(Schema.String),
  grpc_url: optional(Schema.String)
}).annotate({ identifier: "PageserverShardConnectionInfo" })
export type PageserverShardConnectionInfo = typeof PageserverShardConnectionInfo.Type

/** The servers of a shard; the first one serves base backup and pages. */
export const PageserverShardInfo = Schema.Struct({
  pageservers: Schema.Array(PageserverShardConnectionInfo)
}).annotate({ identifier: "PageserverShardInfo" })
export type PageserverShardInfo = typeof PageserverShardInfo.Type

const shardKey = "a shard index of 4 hex digits such as 0102"
const AnyCaseKey = Schema.String.check(Schema.isPattern(/^[0-9a-fA-F]{4}$/u, { expected: shardKey }))
const LowerCaseKey = Schema.String.check(Schema.isPattern(/^[0-9a-f]{4}$/u, { expected: shardKey }))
const Shards = Schema.Record(Schema.String, PageserverShardInfo)
  .check(Schema.isPropertyNames(AnyCaseKey))
  .pipe(
    Schema.decodeTo(Schema.Record(LowerCaseKey, Schema.toType(PageserverShardInfo)), {
      decode: SchemaGetter.transform((shards) =>
        Object.fromEntries(Object.entries(shards).map(([key, shard]) => [key.toLowerCase(), shard]))
      ),
      encode: SchemaGetter.transform((shards) => shards)
    })
  )

export const PageserverConnectionInfo = Schema.Struct({
  /** 0: not sharded. 1 is one shard too, under another key. */
  shard_count: u8,
  /** Pages of 8 KiB. */
  stripe_size: optional(u32),
  /** By shard index: number, then count, two lower-case hex digits each (`0102` = second of two). */
  shards: Shards,
  prefer_protocol: PageserverProtocol.pipe(Schema.withDecodingDefaultKey(Effect.succeed("libpq" as const)))
}).annotate({ identifier: "PageserverConnectionInfo" })
export type PageserverConnectionInfo = typeof PageserverConnectionInfo.Type

/** The addresses do not lead to a pageserver; the message names the shard. */
export class ConnectionInfoError extends Data.TaggedError("ConnectionInfoError")<{ readonly message: string }> {}

const fail = (message: string): Result.Result<never, ConnectionInfoError> =>
  Result.fail(new ConnectionInfoError({ message }))

const hexByte = (value: number): string => value.toString(16).padStart(2, "0")

/** Index of a shard as text: `0000` where there is one unsharded tenant, `0102` for the second of two. */
export const shardIndex = (shard: number, shardCount: number): string => hexByte(shard) + hexByte(shardCount)

/** Reads the stripe size of a setting, in pages. The texts of its errors are those of a Rust `u32`. */
export const parseStripeSize = (text: string): Result.Result<number, ConnectionInfoError> => {
  if (text === "") return fail("cannot parse integer from empty string")
  if (!/^\+?[0-9]+$/u.test(text)) return fail("invalid digit found in string")
  const value = Number(text)
  return value > 0xffffffff ? fail("number too large to fit in target type") : Result.succeed(value)
}

/**
 * Addresses from a legacy connection string: one part is an unsharded tenant, whose stripe size is dropped; several,
 * separated by commas, are its shards in order. `field` is where the text stands.
 */
export const fromConnstring = (
  field: string,
  connstring: string,
  stripeSize: number | undefined
): Result.Result<PageserverConnectionInfo, ConnectionInfoError> => {
  const urls = connstring.split(",").map((url) => url.trim())
  const empty = urls.indexOf("")
  if (empty >= 0)
    return fail(urls.length === 1 ? `${field} is empty` : `${field}: the address of shard ${empty} is empty`)
  const sharded = urls.length > 1
  if (sharded && stripeSize === undefined) return fail(`${urls.length} shards but no stripe_size`)
  if (urls.length > 255) return fail("out of range integral type conversion attempted")
  const shardCount = sharded ? urls.length : 0
  return Result.succeed({
    shard_count: shardCount,
    stripe_size: sharded ? (stripeSize ?? null) : null,
    shards: Object.fromEntries(
      urls.map((url, shard) => [
        shardIndex(shard, shardCount),
        { pageservers: [{ id: null, libpq_url: url, grpc_url: null }] }
      ])
    ),
    prefer_protocol: "libpq"
  })
}

/** Path of the first address for the preferred protocol that is there but empty. */
export const emptyUrlPath = (info: PageserverConnectionInfo): string | undefined => {
  const member = `${info.prefer_protocol}_url` as const
  for (const [key, { pageservers }] of Object.entries(info.shards)) {
    const index = pageservers.findIndex((server) => server[member]?.trim() === "")
    if (index >= 0) return `shards["${key}"].pageservers[${index}].${member}`
  }
  return undefined
}

/** Address of the first server of shard 0, which serves the base backup. */
export const firstShardUrl = (
  info: PageserverConnectionInfo,
  protocol: PageserverProtocol = "libpq"
): Result.Result<string, ConnectionInfoError> => {
  const index = shardIndex(0, info.shard_count)
  const shard = info.shards[index]
  if (shard === undefined) return fail(`shard connection info missing for shard ${index}`)
  const [server] = shard.pageservers
  if (server === undefined) return fail("must have at least one pageserver")
  const url = server[`${protocol}_url`] ?? undefined
  return url === undefined ? fail(`no ${protocol}_url for shard ${index}`) : Result.succeed(url)
}

/**
 * Value of `neon.pageserver_connstring`: the libpq address of every shard's first server, joined by commas. Undefined
 * when a shard has none.
 */
export const settingValue = (
  info: PageserverConnectionInfo
): Result.Result<string | undefined, ConnectionInfoError> => {
  const urls: Array<string> = []
  let complete = true
  for (let number = 0; number < Math.max(info.shard_count, 1); number++) {
    const index = shardIndex(number, info.shard_count)
    const shard = info.shards[index]
    if (shard === undefined) return fail(`shard ${index} missing from pageserver_connection_info shard map`)
    const [server] = shard.pageservers
    if (server === undefined) return fail("must have at least one pageserver")
    if (typeof server.libpq_url === "string") urls.push(server.libpq_url)
    else complete = false
  }
  return Result.succeed(complete ? urls.join(",") : undefined)
}
