/**
 * The emulated page service: `basebackup`, `lease lsn` and `set`, with the grammar and the error texts of the original.
 *
 * Base backups are the cold images of the store; nothing is compressed again. Several instances may run on one store;
 * each serves the tenants that are attached to it, and counts what it is asked for others. A page stream is routed like
 * the others, but there are no pages to answer with.
 * Source: reference/storage-protocols §1.1–§1.3, §1.7, §1.8.
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
import * as Locations from "./Locations.ts"
import type { Listener } from "./listener.ts"
import * as metricsServer from "./metricsServer.ts"
import * as PageserverMetrics from "./PageserverMetrics.ts"
import type { Dropped } from "./PgConnection.ts"
import * as PgServer from "./PgServer.ts"
import * as pagestream from "./pagestream.ts"
import { QueryError } from "./QueryError.ts"
import { type Authentication, permission } from "./StorageAuth.ts"
import { newest, type Store, type Timeline } from "./Store.ts"
import { parseTenantShard } from "./shards.ts"
import * as TimelineKey from "./TimelineKey.ts"

/** Validity of a lease in milliseconds, or that none is given. */
export type LeaseRule = { readonly _tag: "Granted"; readonly millis: number } | { readonly _tag: "Refused" }

/** Stopping and starting is about both of its ports. */
export interface Pageserver extends PgServer.PgServer {
  /** Number in `pageserver_connection_info`. */
  readonly id: number
  /** For `pageserver_connection_info`. */
  readonly url: string
  /** `http://host:port/metrics` */
  readonly metricsUrl: string
  /** Requests for tenants, timelines and shards that are not here. */
  readonly unservable: () => number
  readonly attach: Locations.Locations["attach"]
  /** Afterwards the tenant is unknown here; what is being answered for it ends with `shutdown`. */
  readonly detach: Locations.Locations["detach"]
  /** 10 minutes at the start. */
  readonly setLease: (rule: LeaseRule) => void
}

export interface Options {
  readonly id: number
  readonly store: Store
  readonly authentication: Authentication
  readonly port?: number
  /** Of `/metrics`; a free one when left out. */
  readonly httpPort?: number
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

/** Answer to every page request that has come to the right place. */
const noPages = "Read error: this emulation has base backups, and no pages"

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
  const locations = Locations.make()
  const metrics = PageserverMetrics.make()
  const leases = new Map<string, number>()
  let lease: LeaseRule = { _tag: "Granted", millis: 600_000 }

  const missing = (
    command: PageserverMetrics.Command,
    reason: PageserverMetrics.Reason,
    error: ConstructorParameters<typeof QueryError>[0]
  ) =>
    Effect.suspend(() => {
      metrics.count(command, reason)
      return Effect.fail(new QueryError(error))
    })

  const permit = (exchange: PgServer.Exchange, tenant: string) =>
    Effect.fromResult(
      Result.mapError(
        permission(exchange.claims, tenant, "Pageserver"),
        (message) => new QueryError({ kind: "Unauthorized", message })
      )
    )

  const find = (command: PageserverMetrics.Command, key: TimelineKey.TimelineKey) =>
    store
      .timeline(key)
      .pipe(
        Effect.catchTag("TimelineNotFound", ({ message }) =>
          missing(command, "timeline_not_found", { kind: "NotFound", message, detailed: command === "lease" })
        )
      )

  /** Runs the work for a shard if it is attached, and as long as it is. */
  const locate = <A, E>(
    command: PageserverMetrics.Command,
    key: TimelineKey.TimelineKey,
    selector: Locations.Selector,
    work: Effect.Effect<A, E>
  ) =>
    Effect.suspend(() => {
      const location = locations.find(key.tenantId, selector)
      if (typeof location === "string") {
        return missing(
          command,
          location,
          selector._tag === "Block"
            ? { kind: "Reconnect", message: "Server requested reconnect" }
            : { kind: "NotFound", message: `Tenant ${key.tenantId} not found`, detailed: command === "lease" }
        )
      }
      const shutdown = new QueryError({ kind: "Shutdown", message: "Shutting down" })
      return Effect.raceFirst(work, Effect.andThen(location.gone, Effect.fail(shutdown)))
    })

  const waitFor = Effect.fnUntraced(function* (key: TimelineKey.TimelineKey, lsn: Lsn.Lsn) {
    const found = yield* store
      .reached(key, lsn, waitLimit)
      .pipe(Effect.catchTag("TimelineNotFound", () => Effect.succeed(undefined)))
    if (found !== undefined) return found
    const last = Lsn.format(newest(yield* find("basebackup", key)).lsn)
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

  const sendImage = Effect.fnUntraced(function* (exchange: PgServer.Exchange, request: BasebackupRequest) {
    const known = yield* find("basebackup", request)
    const timeline = request.lsn === undefined ? known : yield* waitFor(request, request.lsn)
    const base = yield* Effect.fromResult(choose(timeline, request.lsn))
    yield* exchange.copyOut(archiveChunks(store.archive(request, base, !request.replica), request.gzip), "SELECT 1")
  })

  const basebackup = Effect.fnUntraced(function* (exchange: PgServer.Exchange, words: ReadonlyArray<string>) {
    const request = yield* Effect.fromResult(parseBasebackup(words))
    yield* permit(exchange, request.tenantId)
    yield* locate("basebackup", request, { _tag: "Zero" }, sendImage(exchange, request))
  })

  const grant = Effect.fnUntraced(function* (key: TimelineKey.TimelineKey, lsn: Lsn.Lsn) {
    const timeline = yield* find("lease", key)
    const now = yield* Clock.currentTimeMillis
    const at = `${TimelineKey.format(key)}@${normalize(lsn)}`
    const held = leases.get(at)
    const kept = held !== undefined && held > now
    if (lease._tag === "Refused" || (!kept && lsn < timeline.bases[0].lsn)) return undefined
    const until = Math.max(held ?? 0, now + lease.millis)
    leases.set(at, until)
    return until
  })

  const leaseLsn = Effect.fnUntraced(function* (exchange: PgServer.Exchange, words: ReadonlyArray<string>) {
    const [shardText, timelineText, lsnText] = words
    if (shardText === undefined || timelineText === undefined || lsnText === undefined || words.length !== 3) {
      return yield* other(`invalid number of parameters for lease lsn command: ${words.length}`)
    }
    const { tenant, shard } = parseTenantShard(shardText)
    const key = yield* Effect.fromResult(parseKey(tenant, timelineText))
    const lsn = Lsn.parse(lsnText)
    if (lsn === undefined) return yield* other(`Failed to parse lsn from ${lsnText}`)
    yield* permit(exchange, key.tenantId)
    const until = yield* locate("lease", key, { _tag: "Known", shard }, grant(key, lsn))
    yield* exchange.send(
      rowDescription([{ name: "valid_until" }]),
      dataRow([until === undefined ? null : String(until)]),
      commandComplete("SELECT 1")
    )
  })

  const pages = Effect.fnUntraced(function* (
    exchange: PgServer.Exchange,
    words: ReadonlyArray<string>,
    version: pagestream.Version
  ) {
    const [tenant, timeline] = words
    if (tenant === undefined || timeline === undefined || words.length !== 2) {
      return yield* other(`invalid number of parameters for pagestream command: ${words.length}`)
    }
    const key = yield* Effect.fromResult(parseKey(tenant, timeline))
    yield* permit(exchange, key.tenantId)
    yield* exchange.copyBoth((payload) =>
      Effect.flatMap(Effect.fromResult(pagestream.parse(payload, version)), (request) =>
        locate(
          "pagestream",
          key,
          request.selector,
          Effect.as(find("pagestream", key), pagestream.errorAnswer(request, noPages))
        )
      )
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
      case "pagestream_v2":
        return pages(exchange, words, 2)
      case "pagestream_v3":
        return pages(exchange, words, 3)
      case "set":
        return exchange.send(commandComplete("SELECT 1"))
      default:
        return Effect.fail(other(`unsupported command ${command} in ${text}`))
    }
  }

  const server = yield* PgServer.make({
    name: `pageserver ${options.id}`,
    authentication: options.authentication,
    run,
    ...(options.port === undefined ? {} : { port: options.port })
  })
  const web: Listener = yield* metricsServer.make({
    name: `metrics server of pageserver ${options.id}`,
    port: options.httpPort,
    render: metrics.render
  })
  const pageserver: Pageserver = {
    ...server,
    id: options.id,
    url: `postgresql://no_user@${server.address}`,
    metricsUrl: `http://${web.address}/metrics`,
    unservable: metrics.total,
    attach: locations.attach,
    detach: locations.detach,
    setLease: (rule) => {
      lease = rule
    },
    stop: Effect.andThen(server.stop, web.stop),
    start: Effect.andThen(server.start, web.start)
  }
  return pageserver
})
