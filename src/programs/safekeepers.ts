/**
 * At which LSN the safekeepers agree.
 *
 * First the quorum of their answers; only if they differ `postgres --sync-safekeepers`, which elects a new proposer
 * term. Only a primary may do that, and only while no Postgres of this node runs.
 *
 * Source: reference/startup §11, §21.2; differs: decision S3 (quorum first and bounded retries at the end, too).
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { describeLine } from "../domain/describe.ts"
import type { Lsn } from "../domain/Lsn.ts"
import * as LsnText from "../domain/Lsn.ts"
import type { ParsedSpec } from "../domain/ParsedSpec.ts"
import { ComputeNode } from "../layers/ComputeNode.ts"
import * as Failpoints from "../layers/Failpoints.ts"
import { Postgres } from "../layers/Postgres.ts"
import { Safekeepers } from "../layers/Safekeepers.ts"
import * as schedules from "../layers/schedules.ts"
import { stage, timedMillis } from "./startup/stages.ts"

/** The safekeepers could not be brought to agree. */
export class SyncFailed extends Data.TaggedError("SyncFailed")<{
  readonly message: string
  readonly cause?: unknown
}> {}

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
    Effect.retry(schedules.syncAtStart),
    Effect.mapError((cause) => new SyncFailed({ message: "failed to sync safekeepers", cause })),
    stage("sync_safekeepers")
  )
}

/** The position to report at the end of a primary whose Postgres is gone. */
export const syncAtEnd = (spec: ParsedSpec): Effect.Effect<Lsn, SyncFailed, ComputeNode | Postgres | Safekeepers> =>
  Effect.gen(function* () {
    yield* Effect.logInfo("syncing safekeepers on shutdown")
    yield* Failpoints.pass("terminate-before-sync")
    const agreed = yield* checkSynced(spec)
    const lsn =
      agreed ??
      (yield* syncOnce(spec).pipe(
        Effect.tapError((error) => Effect.logWarning(`sync_safekeepers failed, will retry: ${describeLine(error)}`)),
        Effect.retry(schedules.syncAtEnd)
      ))
    yield* Effect.logInfo("synced safekeepers").pipe(Effect.annotateLogs({ lsn: LsnText.format(lsn) }))
    return lsn
  }).pipe(
    Effect.mapError((cause) => new SyncFailed({ message: "failed to sync safekeepers on shutdown", cause })),
    Effect.timeoutOrElse({
      duration: schedules.syncAtEndTimeout,
      orElse: () =>
        Effect.fail(new SyncFailed({ message: "failed to sync safekeepers on shutdown: no quorum within 20 seconds" }))
    }),
    Effect.withSpan("sync_safekeepers")
  )
