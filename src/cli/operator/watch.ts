/** `compute_ctl status --watch`: each change of the status, until Ctrl-C or the end of the node. */
import { stripVTControlCharacters } from "node:util"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { display, isEnding } from "../../domain/ComputeStatus.ts"
import type { ComputeStatusResponse } from "../../http/client/documents.ts"
import { showStatus } from "./showStatus.ts"
import type { Screen } from "./terminal.ts"

/** Pause between two questions. */
const pause = Duration.seconds(1)

/** So many questions in a row without an answer: the node is gone. */
const patience = 3

export interface WatchOptions {
  readonly screen: Screen
  /** A new state takes the place of the old one; without it it stands below. */
  readonly redraw: boolean
  readonly json: boolean
  readonly write: (text: string) => void
}

/** Rows that lines take where the terminal breaks them. */
const height = (lines: ReadonlyArray<string>, columns: number): number =>
  lines.reduce((rows, line) => rows + Math.max(1, Math.ceil(stripVTControlCharacters(line).length / columns)), 0)

const show = ({ json, redraw, screen, write }: WatchOptions) => {
  let drawn: ReadonlyArray<string> | undefined
  return (answer: ComputeStatusResponse): void => {
    if (json) {
      write(`${JSON.stringify(answer)}\n`)
      return
    }
    const lines = showStatus(screen, answer, undefined)
    const text = lines.map((line) => `${line}\n`).join("")
    const back = drawn === undefined ? "" : redraw ? `\u001b[${height(drawn, screen.columns)}A\u001b[J` : "\n"
    drawn = lines
    write(back + text)
  }
}

/** Ctrl-C is the usual end of watching, not an accident. */
const interrupted = Effect.callback<void>((resume) => {
  const end = (): void => resume(Effect.void)
  process.once("SIGINT", end)
  return Effect.sync(() => process.off("SIGINT", end))
})

/** @param ask asks once for the status */
export const watch = <E extends { readonly _tag: string; readonly message: string }>(
  ask: Effect.Effect<ComputeStatusResponse, E>,
  options: WatchOptions
): Effect.Effect<void, E> => {
  const draw = show(options)
  /** The last line, for people. */
  const end = (text: string): void => (options.json ? undefined : options.write(`${text}\n`))
  const following = Effect.gen(function* () {
    let seen: ComputeStatusResponse | undefined
    let misses = 0
    while (seen?.status !== "terminated") {
      const answer = yield* Effect.catch(ask, (error) =>
        seen !== undefined && (error._tag === "Unreachable" || error._tag === "Unavailable")
          ? Effect.succeed(error)
          : Effect.fail(error)
      )
      if ("status" in answer) {
        misses = 0
        if (JSON.stringify(answer) !== JSON.stringify(seen)) draw(answer)
        seen = answer
      } else if (seen !== undefined && isEnding(seen.status)) {
        return end("the node has ended")
      } else if (seen !== undefined && ++misses >= patience) {
        return end(`the node is gone, it was ${display(seen.status)} before: ${answer.message}`)
      }
      if (seen?.status !== "terminated") yield* Effect.sleep(pause)
    }
    end("the node is terminated")
  })
  // The terminal has written ^C by then.
  const leave = Effect.map(interrupted, () => (options.redraw ? options.write("\n") : undefined))
  return Effect.raceFirst(following, leave)
}
