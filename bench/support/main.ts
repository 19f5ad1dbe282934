/** How a benchmark runs, and what it leaves. */
import * as fs from "node:fs/promises"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { describe } from "../../src/domain/describe.ts"
import type { Figures } from "./figures.ts"

/** Prints the figures; with a path writes them there, too, as JSON beside what describes the run. */
export const publish = (figures: Figures, run: object, path: string | undefined): Effect.Effect<void> =>
  Effect.gen(function* () {
    yield* Console.log(figures.text())
    if (path === undefined) return
    const text = JSON.stringify({ ...run, figures: figures.json() }, undefined, 2)
    yield* Effect.promise(() => fs.writeFile(path, `${text}\n`))
  })

/** Runs a benchmark as this process; its scope is closed after Ctrl-C, too. */
export const runBench = <E>(name: string, bench: Effect.Effect<void, E, Scope.Scope>): void => {
  const report = (cause: Cause.Cause<unknown>): Effect.Effect<void> =>
    Cause.hasInterruptsOnly(cause) ? Effect.void : Console.error(`bench:${name}: ${describe(Cause.squash(cause))}`)
  NodeRuntime.runMain(Effect.tapCause(Effect.scoped(bench), report), { disableErrorReporting: true })
}
