/**
 * The emulated page service: `basebackup`, `lease lsn` and `set`, with the grammar and the error texts of the original.
 *
 * Base backups are the cold images of the store; nothing is compressed again. Several instances may run on one store;
 * each serves the timelines that are attached to it.
 * Source: reference/storage-protocols §1.1–§1.3, §1.7.
 */
import { createReadStream } from "node:fs"
import { createGunzip } from "node:zlib"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Lsn from "../domain/Lsn.ts"
import { commandComplete, dataRow, rowDescription } from "./backendMessages.ts"
import type { Base } from "./catalogue.ts"
import type { Dropped } from "./PgConnection.ts"
import * as PgServer from "./PgServer.ts"
import { QueryError } from "./QueryError.ts"
import { type Authentication, permission } from "./StorageAuth.ts"
import { newest, type Store, type Timeline } from "./Store.ts"
import * as TimelineKey from "./TimelineKey.ts"

/** Validity of a lease in milliseconds, or that none is given. */
export type LeaseRule = { readonly _tag: "Granted"; readonly millis: number } | { readonly _tag: "Refused" }

export interface Pageserver extends PgServer.PgServer {
  /** For `pageserver_connection_info`. */
  readonly url: string
  /** Requests for tenants and timelines that this instance does not have. */
  readonly unservable: () => number
  readonly attach: (key: TimelineKey.TimelineKey) => void
  /** Afterwards the tenant is unknown here. */
  readonly detach: (key: TimelineKey.TimelineKey) => void
  /** 10 minutes at the start. */
  readonly setLease: (rule: LeaseRule) => void
}

export interface Options {
  readonly store: Store
  readonly authentication: Authentication
  readonly port?: number
  /** How long a base backup waits for its position; 300 s when left out. */
  readonly waitLimit?: Duration.Input
}

const other = (message: string, ...causes: ReadonlyArray<string>) => new QueryError({ kind: "Other", message, causes })

const parseKey = (tenant: string, timeline: string) =>
  Result.mapError(TimelineKey.parse(tenant, timeline), (message) => other(message))

interface BasebackupRequest extends TimelineKey.TimelineKey {
  /** Undefined: the latest. */
  readonly lsn: Lsn.Lsn | undefined
  readonly gzip: boolean
  readonly replica: boolean
}

const parseBasebackup = (words: ReadonlyArray<string>): Result.Result<BasebackupRequest, QueryError> => {
  const [tenant, timeline, ...rest] = words
  if (tenant === undefined || timeline === undefined) {
    return Result.fail(other(`invalid number of parameters for basebackup command: ${words.length}`))
  }
  return Result.flatMap(parseKey(tenant, timeline), (key) => {
    let lsn: Lsn.Lsn | undefined
    const flags = rest.slice()
    const [third] = rest
    if (third !== undefined && !third.startsWith("--")) {
      flags.shift()
      lsn = third === "latest" ? undefined : Lsn.parse(third)
      if (lsn === undefined && third !== "latest") return Result.fail(other(`Failed to parse lsn from ${third}`))
    }
    const seen = new Set<string>()
    for (const flag of flags) {
      if (flag !== "--gzip" && flag !== "--replica") {
        return Result.fail(other(`invalid parameter for basebackup command: ${flag}`))
      }
      if (seen.has(flag)) return Result.fail(other(`duplicate parameter for basebackup command: ${flag}`))
      seen.add(flag)
    }
    return Result.succeed({ ...key, lsn, gzip: seen.has("--gzip"), replica: seen.has("--replica") })
  })
}

const segmentBytes = 16n * 1024n * 1024n
const pageBytes = 8192n

/** Where the next record can start. */
const normalize = (lsn: bigint): bigint => {
  if (lsn % segmentBytes === 0n) return lsn + 40n
  if (lsn % pageBytes === 0n) return lsn + 24n
  return (lsn + 7n) & ~7n
}

const archiveChunks = (path: string, gzip: boolean): AsyncIterable<Uint8Array> => {
  const packed = createReadStream(path, { highWaterMark: 128 * 1024 })
  if (gzip) return packed
  const plain = createGunzip({ chunkSize: 256 * 1024 })
  packed.once("error", (cause) => plain.destroy(cause))
  plain.once("close", () => packed.destroy())
  return packed.pipe(plain)
}

export const make = Effect.fnUntraced(function* (options: Options) {
  const { store } = options
  const waitLimit = options.waitLimit ?? "300 seconds"
  const detached = new Set<string>()
  const leases = new Map<string, number>()
  let lease: LeaseRule = { _tag: "Granted", millis: 600_000 }
  let unservable = 0

  const missing = (message: string, detailed: boolean) =>
    Effect.suspend(() => {
      unservable++
      return Effect.fail(new QueryError({ kind: "NotFound", message, detailed }))
    })

  const permit = (exchange: PgServer.Exchange, tenant: string) =>
    Effect.fromResult(
      Result.mapError(
        permission(exchange.claims, tenant, "Pageserver"),
        (message) => new QueryError({ kind: "Unauthorized", message })
      )
    )

  const find = (key: TimelineKey.TimelineKey, detailed = false) =>
    detached.has(TimelineKey.format(key))
      ? missing(`Tenant ${key.tenantId} not found`, detailed)
      : store.timeline(key).pipe(Effect.catchTag("TimelineNotFound", ({ message }) => missing(message, detailed)))

  const waitFor = Effect.fnUntraced(function* (key: TimelineKey.TimelineKey, lsn: Lsn.Lsn) {
    const found = yield* store
      .reached(key, lsn, waitLimit)
      .pipe(Effect.catchTag("TimelineNotFound", ({ message }) => missing(message, false)))
    if (found !== undefined) return found
    const last = Lsn.format(newest(yield* find(key)).lsn)
    return yield* other(
      `Timed out while waiting for WAL record at LSN ${Lsn.format(lsn)} to arrive, last_record_lsn ${last} disk consistent LSN=${last}, WalReceiver status: Not active`
    )
  })

  /** The newest image that does not go beyond the position. */
  const choose = (timeline: Timeline, lsn: Lsn.Lsn | undefined): Result.Result<Base, QueryError> => {
    if (lsn === undefined) return Result.succeed(newest(timeline))
    const found = timeline.bases.findLast((base) => base.lsn <= lsn)
    return found === undefined
      ? Result.fail(
          other(
            "invalid basebackup lsn",
            `LSN ${Lsn.format(lsn)} is earlier than latest GC cutoff ${Lsn.format(timeline.bases[0].lsn)} (we might've already garbage collected needed data)`
          )
        )
      : Result.succeed(found)
  }

  const basebackup = Effect.fnUntraced(function* (exchange: PgServer.Exchange, words: ReadonlyArray<string>) {
    const request = yield* Effect.fromResult(parseBasebackup(words))
    yield* permit(exchange, request.tenantId)
    const known = yield* find(request)
    const timeline = request.lsn === undefined ? known : yield* waitFor(request, request.lsn)
    const base = yield* Effect.fromResult(choose(timeline, request.lsn))
    yield* exchange.copyOut(archiveChunks(store.archive(request, base, !request.replica), request.gzip), "SELECT 1")
  })

  const leaseLsn = Effect.fnUntraced(function* (exchange: PgServer.Exchange, words: ReadonlyArray<string>) {
    const [shard, timelineText, lsnText] = words
    if (shard === undefined || timelineText === undefined || lsnText === undefined || words.length !== 3) {
      return yield* other(`invalid number of parameters for lease lsn command: ${words.length}`)
    }
    const tenant = /^[0-9a-f]{32}-[0-9a-f]{4}$/iu.test(shard) ? shard.slice(0, 32) : shard
    const key = yield* Effect.fromResult(parseKey(tenant, timelineText))
    const lsn = Lsn.parse(lsnText)
    if (lsn === undefined) return yield* other(`Failed to parse lsn from ${lsnText}`)
    yield* permit(exchange, key.tenantId)
    const timeline = yield* find(key, true)
    const now = yield* Clock.currentTimeMillis
    const at = `${TimelineKey.format(key)}@${normalize(lsn)}`
    const held = leases.get(at)
    const kept = held !== undefined && held > now
    let until: number | undefined
    if (lease._tag === "Granted" && (kept || lsn >= timeline.bases[0].lsn)) {
      until = Math.max(held ?? 0, now + lease.millis)
      leases.set(at, until)
    }
    yield* exchange.send(
      rowDescription([{ name: "valid_until" }]),
      dataRow([until === undefined ? null : String(until)]),
      commandComplete("SELECT 1")
    )
  })

  const run = (exchange: PgServer.Exchange): Effect.Effect<void, QueryError | Dropped> => {
    const text = exchange.text.trim()
    const space = text.indexOf(" ")
    if (space < 0) return Effect.fail(other(`cannot parse query: ${text}`))
    const command = text.slice(0, space).toLowerCase()
    const words = text
      .slice(space + 1)
      .split(/\s+/u)
      .filter((word) => word !== "")
    switch (command) {
      case "basebackup":
        return basebackup(exchange, words)
      case "lease":
        return words[0] === "lsn" && words.length > 1
          ? leaseLsn(exchange, words.slice(1))
          : Effect.fail(other("invalid lease command: lease"))
      case "set":
        return exchange.send(commandComplete("SELECT 1"))
      default:
        return Effect.fail(other(`unsupported command ${command} in ${text}`))
    }
  }

  const server = yield* PgServer.make({
    name: "pageserver",
    authentication: options.authentication,
    run,
    ...(options.port === undefined ? {} : { port: options.port })
  })
  const pageserver: Pageserver = {
    ...server,
    url: `postgresql://no_user@${server.address}`,
    unservable: () => unservable,
    attach: (key) => void detached.delete(TimelineKey.format(key)),
    detach: (key) => void detached.add(TimelineKey.format(key)),
    setLease: (rule) => {
      lease = rule
    }
  }
  return pageserver
})
