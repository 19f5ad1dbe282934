/** One attempt at a refresh: the configuration is pulled once, and what comes of it is told. */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { JwkSet } from "../../domain/ComputeConfig.ts"
import { describe, describeLine } from "../../domain/describe.ts"
import * as ParsedSpec from "../../domain/ParsedSpec.ts"
import { ComputeNode, IllegalTransition } from "../../layers/ComputeNode.ts"
import { ConfigRefused, ControlPlane } from "../../layers/ControlPlane.ts"
import * as Failpoints from "../../layers/Failpoints.ts"

/** What was pulled cannot be brought up; asking again before somebody has changed it does not help. */
export class SpecRefused extends Data.TaggedError("SpecRefused")<{ readonly message: string }> {}

export type Pulled =
  | { readonly _tag: "Detached" }
  | {
      readonly _tag: "Spec"
      readonly spec: ParsedSpec.ParsedSpec
      /** Keys that came along; undefined where there are none: an empty set replaces nothing (decision H6). */
      readonly keys: JwkSet | undefined
    }

/** The node is attached to no storage any more (decision C14). */
const detached: Pulled = { _tag: "Detached" }

/** `running`: what Postgres serves now; another tenant, timeline or mode is refused (decision C13). */
export const pullSpec = Effect.fn("pull_spec")(function* (running: ParsedSpec.ParsedSpec | undefined) {
  const controlPlane = yield* ControlPlane
  const config = yield* controlPlane.fetch
  yield* Failpoints.pass("refresh-after-fetch")
  if (config.detached) {
    yield* Effect.logWarning("this compute is no longer attached to any storage")
    return detached
  }
  if (config.spec === undefined) return yield* new ConfigRefused({ message: "the configuration holds no spec" })
  const spec = yield* Effect.fromResult(ParsedSpec.parse(config.spec))
  const mismatch = running === undefined ? undefined : ParsedSpec.identityMismatch(running, spec)
  if (mismatch !== undefined) return yield* new SpecRefused({ message: mismatch })
  const { jwks } = config.computeCtlConfig
  const pulled: Pulled = { _tag: "Spec", spec, keys: jwks.keys.length > 0 ? jwks : undefined }
  return pulled
})

/** An attempt failed; log and `/status` say why. */
export class AttemptFailed extends Data.TaggedError("AttemptFailed")<{
  /** Another one may succeed without anybody doing anything about it. */
  readonly again: boolean
}> {}

/**
 * The frame of an attempt. Whatever goes wrong inside, bugs included, is a failed attempt, but for one thing: a status
 * that does not allow the next step means that the end was asked for meanwhile.
 */
export const attempt = <A, E, R>(work: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    yield* node.beginRefresh
    return yield* Effect.catchCause(work, (cause) =>
      Effect.gen(function* () {
        const error = Cause.squash(cause)
        if (error instanceof IllegalTransition) return yield* error
        yield* Effect.logError(`Refresh configuration: ${describeLine(error)}`)
        yield* node.transition("refresh_attempt_failed", (state) => ({ ...state, error: describe(error) }))
        return yield* new AttemptFailed({ again: !(error instanceof SpecRefused) })
      })
    )
  })
