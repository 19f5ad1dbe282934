/**
 * SIGTERM, SIGINT and SIGQUIT ask for the end, in the way of `/terminate?mode=immediate`; SIGQUIT stops Postgres without
 * a shutdown checkpoint. Each further signal takes the next step of the ladder. Source: decision P1.
 */
import { constants } from "node:os"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { isEnding } from "../domain/ComputeStatus.ts"
import { ComputeNode } from "../layers/ComputeNode.ts"
import { Postgres } from "../layers/Postgres.ts"
import { Signals } from "../layers/Signals.ts"

/** Serves signals for ever. `hurry` is completed with the first one: nothing lingers after it. */
export const endOnSignal = (hurry: Deferred.Deferred<void>) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const postgres = yield* Postgres
    const signals = yield* Signals
    for (let count = 1; ; count++) {
      const signal = yield* signals.next
      yield* Effect.logInfo(`received ${constants.signals[signal]} termination signal`)
      const stopping = isEnding((yield* node.state).status)
      if (count > 1 || (signal === "SIGQUIT" && stopping)) yield* postgres.escalate
      else if (signal === "SIGQUIT") yield* postgres.stopImmediately
      yield* Effect.ignore(node.terminate("immediate")) // refused only where the end is reached already
      yield* Deferred.succeed(hurry, undefined)
    }
  })
