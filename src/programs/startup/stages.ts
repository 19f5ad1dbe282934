/**
 * The stages of a start, in their order: the one place that names them.
 *
 * Span, histogram label, timeline row, failpoint and deadline come from here. The names are those that dashboards
 * of the original filter by (reference/startup §9, golden traces).
 */

import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { describeLine } from "../../domain/describe.ts"
import { ComputeNode } from "../../layers/ComputeNode.ts"
import * as Failpoints from "../../layers/Failpoints.ts"
import { Metrics } from "../../layers/Metrics.ts"

/** Longest time that a stage may take. It bounds everything in it: attempts, pauses, waits for others. */
export const stages = {
  start_compute: Duration.minutes(30),
  prepare_pgdata: Duration.minutes(25),
  create_pgdata: Duration.minutes(5),
  check_safekeepers_synced: Duration.seconds(5),
  sync_safekeepers: Duration.minutes(10),
  get_basebackup: Duration.minutes(15),
  start_postgres: Duration.seconds(90),
  configure_as_primary: Duration.minutes(20)
} as const
export type StageName = keyof typeof stages

/** A stage did not end within its deadline. */
export class StageTimedOut extends Data.TaggedError("StageTimedOut")<{ readonly stage: StageName }> {
  override get message(): string {
    return `stage ${this.stage} did not end within ${Duration.toSeconds(stages[this.stage])} seconds`
  }
}

/** Runs a stage under its name. */
export const stage =
  (name: StageName) =>
  <A, E, R>(
    self: Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | StageTimedOut | Failpoints.FailpointHit, R | ComputeNode | Metrics> =>
    Effect.gen(function* () {
      const node = yield* ComputeNode
      const metrics = yield* Metrics
      const started = yield* Clock.currentTimeMillis
      yield* node.update((state) => ({
        ...state,
        timeline: [...state.timeline, { stage: name, started, duration: undefined, error: undefined }]
      }))
      const finish = (exit: Exit.Exit<A, E | StageTimedOut | Failpoints.FailpointHit>) =>
        Effect.gen(function* () {
          const duration = (yield* Clock.currentTimeMillis) - started
          const error = Exit.isFailure(exit) ? describeLine(Cause.squash(exit.cause)) : undefined
          yield* node.update((state) => ({
            ...state,
            timeline: state.timeline.map((row) =>
              row.stage === name && row.started === started ? { ...row, duration, error } : row
            )
          }))
          yield* metrics.observeStage(name, duration / 1000)
        })
      return yield* Effect.andThen(Failpoints.pass(name), self).pipe(
        Effect.timeoutOrElse({
          duration: stages[name],
          orElse: () => Effect.fail(new StageTimedOut({ stage: name }))
        }),
        Effect.onExit(finish),
        Effect.withSpan(name)
      )
    })

/** The value of an effect and the whole milliseconds that it took. */
export const timedMillis = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<readonly [number, A], E, R> =>
  Effect.map(Effect.timed(self), ([took, value]) => [Math.round(Duration.toMillis(took)), value] as const)
