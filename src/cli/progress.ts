/**
 * What `compute_ctl local` shows while the node lives: each stage of the start as it passes, with its time, and what
 * changes afterwards.
 */
import { isDeepStrictEqual } from "node:util"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { ComputeState, StageRecord } from "../domain/ComputeState.ts"
import { settingValue } from "../domain/PageserverConnection.ts"
import type { ParsedSpec } from "../domain/ParsedSpec.ts"

const line = (name: string, duration: number): string => `  ${name.padEnd(28)}${String(duration).padStart(7)} ms`

const finished = (row: StageRecord): string =>
  row.error === undefined ? line(row.stage, row.duration ?? 0) : `  ${row.stage.padEnd(28)} failed: ${row.error}`

/** Where the pages of a spec come from. */
const pageserverOf = ({ pageserver }: ParsedSpec): string | undefined => Result.getOrUndefined(settingValue(pageserver))

/** What a spec that has become live changes for somebody who watches. */
const applied = (before: ParsedSpec, now: ParsedSpec): string => {
  const pageserver = pageserverOf(now)
  return pageserver === undefined || pageserver === pageserverOf(before)
    ? "new configuration in force"
    : `new configuration in force: pageserver ${pageserver}`
}

/** Follows the states of a node and writes lines; `running` is called when it has come up. */
export const show = (
  changes: Stream.Stream<ComputeState>,
  write: (text: string) => void,
  running: () => string
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const shown = new Set<StageRecord>()
    let status: ComputeState["status"] = "empty"
    let live: ParsedSpec | undefined
    let error: string | undefined
    return Stream.runForEach(changes, (state) =>
      Effect.sync(() => {
        for (const row of state.timeline) {
          if (row.duration === undefined || shown.has(row)) continue
          shown.add(row)
          write(finished(row))
        }
        if (state.status === status) return
        status = state.status
        if (status === "running" && state.spec !== undefined) {
          if (live === undefined) write(running())
          else if (!isDeepStrictEqual(live.spec, state.spec.spec)) write(applied(live, state.spec))
          live = state.spec
        }
        const again = state.error === error
        error = state.error
        if (status === "refresh_configuration_pending" && error !== undefined && !again) {
          write(`the configuration could not be refreshed: ${error}`)
        }
        if (status === "failed") write(`\n${error ?? "the start failed"}\n`)
        if (status === "termination_pending_immediate" || status === "termination_pending_fast") write("\nstopping …")
      })
    )
  })
