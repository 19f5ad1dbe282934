/**
 * The emulated safekeeper: `TIMELINE_STATUS` and `IDENTIFY_SYSTEM`.
 *
 * The position is the store's; while a postmaster writes, no position is known and `TIMELINE_STATUS` has no row. Each
 * instance can be told to answer something else.
 * Source: reference/storage-protocols §3.1–§3.3.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Lsn from "../domain/Lsn.ts"
import { commandComplete, dataRow, rowDescription } from "./backendMessages.ts"
import type { Dropped } from "./PgConnection.ts"
import * as PgServer from "./PgServer.ts"
import { QueryError } from "./QueryError.ts"
import { type Authentication, permission } from "./StorageAuth.ts"
import * as Store from "./Store.ts"
import * as TimelineKey from "./TimelineKey.ts"

/** What an instance says of every timeline. */
export type Status =
  | { readonly _tag: "FromStore" }
  | { readonly _tag: "Unknown" }
  | { readonly _tag: "Fixed"; readonly flush: Lsn.Lsn; readonly commit: Lsn.Lsn }

export interface Safekeeper extends PgServer.PgServer {
  /** `FromStore` at the start. */
  readonly setStatus: (status: Status) => void
}

export interface Options {
  readonly store: Store.Store
  readonly authentication: Authentication
  readonly port?: number
}

const other = (message: string) => new QueryError({ kind: "Other", message })

/** The start-up parameter `options`: words split at white space that is not escaped, each at its first `=`. */
const connectionOption = (options: string, names: ReadonlyArray<string>): string | undefined => {
  for (const word of options.match(/(?:\\.|[^\s\\])+/gu) ?? []) {
    const at = word.indexOf("=")
    if (at > 0 && names.includes(word.slice(0, at))) return word.slice(at + 1).replace(/\\(.)/gu, "$1")
  }
  return undefined
}

const timelineOf = (session: PgServer.SessionRecord): Result.Result<TimelineKey.TimelineKey, QueryError> => {
  const options = session.parameters["options"] ?? ""
  const tenant = connectionOption(options, ["tenant_id", "ztenantid"])
  if (tenant === undefined) return Result.fail(other("tenantid is required"))
  const timeline = connectionOption(options, ["timeline_id", "ztimelineid"])
  if (timeline === undefined) return Result.fail(other("timelineid is required"))
  return Result.mapError(TimelineKey.parse(tenant, timeline), other)
}

const byRecovery = /^(wal_proposer_recovery$|safekeeper)/u

export const make = Effect.fnUntraced(function* (options: Options) {
  const { store } = options
  let status: Status = { _tag: "FromStore" }

  const known = (key: TimelineKey.TimelineKey) =>
    store.timeline(key).pipe(Effect.catchTag("TimelineNotFound", () => Effect.succeed(undefined)))

  /** Flush and commit position, undefined where none is known. */
  const positions = Effect.fnUntraced(function* (key: TimelineKey.TimelineKey) {
    if (status._tag === "Unknown") return undefined
    if (status._tag === "Fixed") return { flush: status.flush, commit: status.commit }
    const timeline = yield* known(key)
    const lsn = timeline === undefined ? undefined : Store.position(timeline)
    return lsn === undefined ? undefined : { flush: lsn, commit: lsn }
  })

  const timelineStatus = Effect.fnUntraced(function* (exchange: PgServer.Exchange, key: TimelineKey.TimelineKey) {
    const found = yield* positions(key)
    yield* exchange.send(
      rowDescription([{ name: "flush_lsn" }, { name: "commit_lsn" }]),
      ...(found === undefined ? [] : [dataRow([Lsn.format(found.flush), Lsn.format(found.commit)])]),
      commandComplete("TIMELINE_STATUS")
    )
  })

  const identifySystem = Effect.fnUntraced(function* (exchange: PgServer.Exchange, key: TimelineKey.TimelineKey) {
    const timeline = yield* known(key)
    const found = yield* positions(key)
    if (timeline === undefined || found === undefined) {
      return yield* new QueryError({
        kind: "NotFound",
        message: `timeline ${key.tenantId}/${key.timelineId} not found`
      })
    }
    const recovery = byRecovery.test(exchange.session.parameters["application_name"] ?? "")
    yield* exchange.send(
      rowDescription([
        { name: "systemid" },
        { name: "timeline", type: "int4" },
        { name: "xlogpos" },
        { name: "dbname" }
      ]),
      dataRow([String(timeline.systemIdentifier), "1", Lsn.format(recovery ? found.flush : found.commit), null]),
      commandComplete("IDENTIFY_SYSTEM")
    )
  })

  const run = (exchange: PgServer.Exchange): Effect.Effect<void, QueryError | Dropped> =>
    Effect.gen(function* () {
      const key = yield* Effect.fromResult(timelineOf(exchange.session))
      yield* Effect.fromResult(
        Result.mapError(
          permission(exchange.claims, key.tenantId, "Safekeeper"),
          (message) => new QueryError({ kind: "Unauthorized", message })
        )
      )
      if (exchange.text.startsWith("TIMELINE_STATUS")) return yield* timelineStatus(exchange, key)
      if (exchange.text.startsWith("IDENTIFY_SYSTEM")) return yield* identifySystem(exchange, key)
      if (exchange.text.startsWith("set datestyle to ")) return yield* exchange.send(commandComplete("SELECT 1"))
      return yield* other(`unsupported command ${exchange.text}`)
    })

  const server = yield* PgServer.make({
    name: "safekeeper",
    authentication: options.authentication,
    run,
    ...(options.port === undefined ? {} : { port: options.port })
  })
  const safekeeper: Safekeeper = {
    ...server,
    setStatus: (next) => {
      status = next
    }
  }
  return safekeeper
})
