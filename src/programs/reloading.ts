/** Reloads of our own Postgres. What then waits for a restart is told by the state, by `/metrics` and by the log. */
import * as Effect from "effect/Effect"
import { ComputeNode } from "../layers/ComputeNode.ts"
import { Metrics } from "../layers/Metrics.ts"
import { Postgres } from "../layers/Postgres.ts"
import type { Reloading } from "./catalog/override.ts"

export const reloading = Effect.gen(function* () {
  const node = yield* ComputeNode
  const metrics = yield* Metrics
  const postgres = yield* Postgres

  const pendingRestart: Reloading["pendingRestart"] = Effect.fnUntraced(function* (settings) {
    yield* metrics.setPendingRestart(settings.length)
    const { pendingRestart: before } = yield* node.state
    if (before.join() === settings.join()) return
    yield* node.update((state) => ({ ...state, pendingRestart: settings }))
    yield* settings.length === 0
      ? Effect.logInfo("no setting waits for a restart of Postgres any more")
      : Effect.logWarning(`settings that wait for a restart of Postgres: ${settings.join(", ")}`)
  })
  return { reload: postgres.reload, pendingRestart } satisfies Reloading
})
