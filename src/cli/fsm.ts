/** `compute_ctl fsm`: the state machine of a node, from the table that every change of status is looked up in. */
import * as Effect from "effect/Effect"
import { document, mermaid } from "../domain/stateDiagram.ts"

/**
 * Runs the command; the value is the exit code.
 *
 * @param json one JSON document in place of the diagram
 */
export const main = (json: boolean): Effect.Effect<number> =>
  Effect.sync(() => {
    process.stdout.write(`${json ? JSON.stringify(document(), undefined, 2) : mermaid()}\n`)
    return 0
  })
