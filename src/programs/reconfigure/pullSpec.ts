/** Pulls the configuration once, for a refresh. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { JwkSet } from "../../domain/ComputeConfig.ts"
import * as ParsedSpec from "../../domain/ParsedSpec.ts"
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
