/**
 * At which LSN the safekeepers agree.
 *
 * First the quorum of their answers; only if they differ `postgres --sync-safekeepers`, which elects a new proposer
 * term. Only a primary may do that, and only while no Postgres of this node runs.
 *
 * Source: reference/startup §11, §21.2; differs: decision S3 (quorum first and bounded retries at the end, too).
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { describeLine } from "../domain/describe.ts"
import type { Lsn } from "../domain/Lsn.ts"
import * as LsnText from "../domain/Lsn.ts"
import type { ParsedSpec } from "../domain/ParsedSpec.ts"
import { ComputeNode } from "../layers/ComputeNode.ts"
import { Postgres } from "../layers/Postgres.ts"
import { Safekeepers } from "../layers/Safekeepers.ts"
import { stage, timedMillis } from "./startup/stages.ts"

/** The safekeepers could not be brought to agree. */
export class SyncFailed extends Data.TaggedError("SyncFailed")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/** Six runs; pauses 0, 1.1, 1.21, 1.331, 1.4641 s, +-20 % (reference/startup §11.2). */
export const startSchedule = Schedule.recurs(1).pipe(
  Schedule.concat(Schedule.exponential("1100 millis", 1.1).pipe(Schedule.jittered, Schedule.upTo({ times: 4 })))
)

/** What the sync at the end may take in all (decision S3). */
const endTimeout = Duration.seconds(20)
/** 200 ms doubling, at most 2 s, +-20 %; `endTimeout` is the bound. */
export const endSchedule = Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("2 seconds")]).pipe(
  Schedule.jittered
)

/** Asks the safekeepers; the LSN if a quorum agrees, undefined if the slow path is needed. Records the time. */
export const checkSynced = (spec: ParsedSpec) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const safekeepers = yield* Safekeepers
    yield* Effect.logInfo("checking if safekeepers are synced")
    const [millis, verdict] = yield* timedMillis(
      safekeepers.status({
        tenantId: spec.tenantId,
        timelineId: spec.timelineId,
        safekeepers: spec.safekeepers,
        token: spec.storageAuthToken
      })
    )
    yield* node.recordMetrics({ sync_sk_check_ms: millis })
    switch (verdict._tag) {
      case "Synced":
        return verdict.lsn
      case "NotSynced":
        yield* Effect.logInfo(`not synced. ${verdict.reason}`)
        return undefined
      case "NoQuorum":
        yield* Effect.logError(`failed sync safekeepers check ${verdict.reason}`)
        return undefined
    }
  })

/** One run of the slow path. */
const syncOnce = (spec: ParsedSpec) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const postgres = yield* Postgres
    yield* Effect.logInfo("starting safekeepers syncing")
    const [millis, lsn] = yield* timedMillis(postgres.syncSafekeepers(spec.storageAuthToken))
    yield* node.recordMetrics({ sync_safekeepers_ms: millis })
    return lsn
  })

/** The slow path of a start, with its retries. */
export const syncAtStart = (spec: ParsedSpec) => {
  let attempt = 0
  return syncOnce(spec).pipe(
    Effect.tapError((error) =>
      Effect.logInfo(`sync_safekeepers failed, will retry (attempt ${++attempt}): ${describeLine(error)}`)
    ),
    Effect.retry(startSchedule),
    Effect.mapError((cause) => new SyncFailed({ message: "failed to sync safekeepers", cause })),
    stage("sync_safekeepers")
  )
}

/** The position to report at the end of a primary whose Postgres is gone. */
export const syncAtEnd = (spec: ParsedSpec): Effect.Effect<Lsn, SyncFailed, ComputeNode | Postgres | Safekeepers> =>
  Effect.gen(function* () {
    yield* Effect.logInfo("syncing safekeepers on shutdown")
    const agreed = yield* checkSynced(spec)
    const lsn =
      agreed ??
      (yield* syncOnce(spec).pipe(
        Effect.tapError((error) => Effect.logWarning(`sync_safekeepers failed, will retry: ${describeLine(error)}`)),
        Effect.retry(endSchedule)
      ))
    yield* Effect.logInfo("synced safekeepers").pipe(Effect.annotateLogs({ lsn: LsnText.format(lsn) }))
    return lsn
  }).pipe(
    Effect.mapError((cause) => new SyncFailed({ message: "failed to sync safekeepers on shutdown", cause })),
    Effect.timeoutOrElse({
      duration: endTimeout,
      orElse: () =>
        Effect.fail(new SyncFailed({ message: "failed to sync safekeepers on shutdown: no quorum within 20 seconds" }))
    }),
    Effect.withSpan("sync_safekeepers")
  )
