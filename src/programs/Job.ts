/** A spec to bring up, or to apply to a running Postgres. */
import type * as Deferred from "effect/Deferred"
import type * as Tracer from "effect/Tracer"
import type { JwkSet } from "../domain/ComputeConfig.ts"
import type { ParsedSpec } from "../domain/ParsedSpec.ts"
import type { ConfigurationFailed } from "../layers/ComputeNode.ts"

export interface Job {
  readonly spec: ParsedSpec
  /** Span that asked for it. */
  readonly parent: Tracer.AnySpan | undefined
  /** Completed with the outcome, where somebody waits for it. */
  readonly done: Deferred.Deferred<void, ConfigurationFailed> | undefined
  /** Keys that came along and count once the spec is live; undefined: those that there are stay. */
  readonly keys?: JwkSet | undefined
}
