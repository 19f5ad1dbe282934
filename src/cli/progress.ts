/** What `compute_ctl local` shows while the node starts: each stage as it passes, with its time. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { type ComputeState, type StageRecord, visibleSpec } from "../domain/ComputeState.ts"

const line = (name: string, duration: number): string => `  ${name.padEnd(28)}${String(duration).padStart(7)} ms`

const finished = (row: StageRecord): string =>
  row.error === undefined ? line(row.stage, row.duration ?? 0) : `  ${row.stage.padEnd(28)} failed: ${row.error}`

/** Follows the states of a node and writes lines; `running` is called whenever it has come up. */
export const show = (
  changes: Stream.Stream<ComputeState>,
  write: (text: string) => void,
  running: (state: ComputeState) => string
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const shown = new Set<StageRecord>()
    let status: ComputeState["status"] = "empty"
    return Stream.runForEach(changes, (state) =>
      Effect.sync(() => {
        for (const row of state.timeline) {
          if (row.duration === undefined || shown.has(row)) continue
          shown.add(row)
          write(finished(row))
        }
        if (state.status === status) return
        status = state.status
        if (status === "running" && visibleSpec(state) !== undefined) write(running(state))
        if (status === "failed") write(`\n${state.error ?? "the start failed"}\n`)
        if (status === "termination_pending_immediate" || status === "termination_pending_fast") write("\nstopping …")
      })
    )
  })
