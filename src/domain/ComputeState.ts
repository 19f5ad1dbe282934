/** What the node knows about itself: one immutable value, held by `layers/ComputeNode`. */

import type { JwkSet } from "./ComputeConfig.ts"
import * as ComputeMetrics from "./ComputeMetrics.ts"
import type { ComputeStatus } from "./ComputeStatus.ts"
import type { Report } from "./catalog/Report.ts"
import type { Lsn } from "./Lsn.ts"
import type { ParsedSpec } from "./ParsedSpec.ts"

/** One row of the startup timeline. Times are milliseconds since the Unix epoch. */
export interface StageRecord {
  readonly stage: string
  readonly started: number
  /** Milliseconds; undefined while the stage runs. */
  readonly duration: number | undefined
  /** One-line error of a stage that failed. */
  readonly error: string | undefined
}

/** The last work on the catalogs. */
export interface LastApply extends Omit<Report, "results"> {
  /** Why it failed; undefined: everything was done. */
  readonly error: string | undefined
}

export interface ComputeState {
  readonly status: ComputeStatus
  /** Milliseconds since the Unix epoch; set anew when a node that started empty gets its spec. */
  readonly startTime: number
  /** The spec that is live. */
  readonly spec: ParsedSpec | undefined
  /** The spec that is being started or applied. */
  readonly pending: ParsedSpec | undefined
  readonly lastActive: number | undefined
  /** Why the node failed (several lines); cleared on reaching `running`. */
  readonly error: string | undefined
  readonly metrics: ComputeMetrics.ComputeMetrics
  readonly timeline: ReadonlyArray<StageRecord>
  /** Undefined where no catalogs were worked on in this process. */
  readonly lastApply: LastApply | undefined
  /** Settings whose new value waits for a restart of Postgres, by name; as of the last reload. */
  readonly pendingRestart: ReadonlyArray<string>
  /** Keys that verify tokens on the external server. */
  readonly keys: JwkSet
  /** Position after the last safekeeper sync, once `terminated`; null for replicas and where nothing was synced. */
  readonly terminateLsn: Lsn | null
}

export const initial = (startTime: number, keys: JwkSet): ComputeState => ({
  status: "empty",
  startTime,
  spec: undefined,
  pending: undefined,
  lastActive: undefined,
  error: undefined,
  metrics: ComputeMetrics.none,
  timeline: [],
  lastApply: undefined,
  pendingRestart: [],
  keys,
  terminateLsn: null
})

/** The spec whose ids `/status` shows: the live one, before that the one being started. */
export const visibleSpec = (state: ComputeState): ParsedSpec | undefined => state.spec ?? state.pending
