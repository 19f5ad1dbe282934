/**
 * What the long-lived loops of this process are doing, for `GET /healthz`.
 *
 * A loop waits, or works at something that has to be over within a time of its own; one that works longer is stuck, and
 * one that ended with an error is dead. A reference: the process has one set of loops.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { describeLine } from "../domain/describe.ts"

export type LoopName = "life" | "worker" | "signals" | "status"

interface Loop {
  /** Monotonic, in nanoseconds. */
  since: bigint
  work: { readonly what: string; readonly limit: Duration.Duration } | undefined
  /** With an error: nothing of the kind is expected. */
  ended: boolean
}

export interface LoopReport {
  readonly name: LoopName
  /** Undefined: it waits for something to do. */
  readonly work: string | undefined
  /** Since it waits, works, or ended; in milliseconds. */
  readonly millis: number
  /** `has ended`, `is stuck in: …`; undefined where all is well. */
  readonly problem: string | undefined
}

interface Registry {
  /** Runs a loop under its name. */
  readonly run: <A, E, R>(name: LoopName, loop: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** The loop has begun with a piece of work. */
  readonly working: (name: LoopName, what: string, limit: Duration.Input) => Effect.Effect<void>
  /** The loop waits for something to do. */
  readonly waiting: (name: LoopName) => Effect.Effect<void>
  readonly report: Effect.Effect<ReadonlyArray<LoopReport>>
}

export const make = (): Registry => {
  const loops = new Map<LoopName, Loop>()

  const change = (name: LoopName, changes: Partial<Omit<Loop, "since">>) =>
    Effect.map(Clock.currentTimeNanos, (since) => {
      const loop = loops.get(name)
      if (loop !== undefined) Object.assign(loop, { since, work: undefined, ...changes })
    })

  /** A loop that comes to its end, or is stopped, is gone; one that breaks is remembered. */
  const finish = (name: LoopName, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> =>
    Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)
      ? Effect.andThen(
          Effect.logError(`loop ${name} has ended: ${describeLine(Cause.squash(exit.cause))}`),
          change(name, { ended: true })
        )
      : Effect.sync(() => void loops.delete(name))

  const problemOf = ({ ended, work }: Loop, millis: number): string | undefined => {
    if (ended) return "has ended"
    if (work === undefined || millis <= Duration.toMillis(work.limit)) return undefined
    return `is stuck in: ${work.what}, since ${Math.round(millis / 1000)} s`
  }

  return {
    run: (name, loop) =>
      Effect.flatMap(Clock.currentTimeNanos, (since) => {
        loops.set(name, { since, work: undefined, ended: false })
        return Effect.onExit(loop, (exit) => finish(name, exit))
      }),
    working: (name, what, limit) => change(name, { work: { what, limit: Duration.fromInputUnsafe(limit) } }),
    waiting: (name) => change(name, {}),
    report: Effect.map(Clock.currentTimeNanos, (now) =>
      [...loops].map(([name, loop]) => {
        const millis = Number((now - loop.since) / 1_000_000n)
        return { name, work: loop.work?.what, millis, problem: problemOf(loop, millis) }
      })
    )
  }
}

export const Loops = Context.Reference<Registry>("compute/layers/Loops", { defaultValue: make })
