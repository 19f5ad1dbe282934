/** The node in any order of events, as it is built: a few lives. */
import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { drive, type Subject } from "../model/drive.ts"
import { AnyBeginning, AnySteps, checkOptions } from "../model/steps.ts"
import { type Bed, makeBed, type StartOptions } from "../support/bed.ts"
import { isAlive } from "../support/compute.ts"

const start = Effect.fnUntraced(function* (bed: Bed, options: StartOptions) {
  const node = yield* bed.start(options)
  const subject: Subject = {
    ...node,
    log: node.stderr,
    exit: Effect.map(node.exit, ({ code }) => code),
    isOver: () => !isAlive(node.pid),
    hurry: node.signal("SIGTERM"),
    certificate: Effect.void, // nobody outside can tell it
    complaints: () => []
  }
  return subject
})

it.live.prop(
  "whatever happens in whatever order: the table holds, no status lies, no caller is lost, and it heals",
  { beginning: AnyBeginning, steps: AnySteps },
  ({ beginning, steps }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const bed = yield* makeBed()
        yield* drive(bed, beginning, steps, (options) => start(bed, options))
      })
    ),
  { timeout: 600_000, arbitrary: checkOptions(4) }
)
