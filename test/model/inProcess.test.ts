/** The node in any order of events, in this process: many short lives. */
import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { makeBed } from "../support/bed.ts"
import { drive } from "./drive.ts"
import { startInProcess } from "./inProcess.ts"
import { AnyBeginning, AnySteps, checkOptions } from "./steps.ts"

it.live.prop(
  "whatever happens in whatever order: the table holds, no status lies, no caller is lost, one worker, and it heals",
  { beginning: AnyBeginning, steps: AnySteps },
  ({ beginning, steps }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const bed = yield* makeBed()
        yield* drive(bed, beginning, steps, (options) => startInProcess(bed, options))
      })
    ),
  { timeout: 600_000, arbitrary: checkOptions(12) }
)
