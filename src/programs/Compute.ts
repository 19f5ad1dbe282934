/**
 * The life of the node, from the first spec to the exit code.
 *
 *     wait for a spec ─▶ start ─▶ run until Postgres ends or the end is asked for ─▶ Postgres down ─▶ safekeepers synced
 *                          └─▶ failed: readable for 30 s; a refresh starts again, a terminate ends it
 *
 * Postgres lives in the Scope of one `bringUp`. Whatever ends that, the Scope is closed, and Postgres is gone,
 * before anything is said about safekeepers. Source: reference/startup §8, §20–§21; decisions P1, P2, P5, C4, C14, S3.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import { isEnding } from "../domain/ComputeStatus.ts"
import { describe, describeLine } from "../domain/describe.ts"
import type { Lsn } from "../domain/Lsn.ts"
import { describeExit } from "../layers/Children.ts"
import { ComputeNode, ConfigurationFailed, TerminationFailed } from "../layers/ComputeNode.ts"
import { Loops } from "../layers/Loops.ts"
import { Params } from "../layers/Params.ts"
import { type Ending, exitCode, Postgres } from "../layers/Postgres.ts"
import type { Job } from "./Job.ts"
import { attempt, pullSpec } from "./reconfigure/pullSpec.ts"
import { serve } from "./reconfigure/serve.ts"
import { SyncFailed, syncAtEnd } from "./safekeepers.ts"
import { stages } from "./startup/stages.ts"
import { startCompute } from "./startup/startCompute.ts"

/** How long an end or a failure stays readable over HTTP (reference/startup §21.3). */
const lingerTime = Duration.seconds(30)

/** Lakebase mode: Postgres has to be up within this time (reference/startup §23). */
const defaultInitTimeout = Duration.seconds(60)

/** From the end of Postgres' service to the exit: the ladder of signals, the last sync, the lingering, and some. */
const endLimit = Duration.minutes(5)

export interface LifeOptions {
  /** Spec known at the start of the process; its status is `init` already. */
  readonly first: Job | undefined
  readonly tls: boolean
  /** Ends every lingering (a signal). */
  readonly hurry: Effect.Effect<void>
}

/** Lakebase mode: the start took longer than `--pg-init-timeout`. The process ends at once. */
class InitTimedOut extends Data.TaggedError("InitTimedOut")<{ readonly message: string }> {}

type Outcome =
  | { readonly _tag: "Terminated" }
  | { readonly _tag: "Detached" }
  | { readonly _tag: "PostgresExited" }
  | { readonly _tag: "Failed"; readonly error: unknown }

const terminated: Outcome = { _tag: "Terminated" }

/** Waits for the first spec of a node that started without one; undefined when the end is asked for instead. */
const waitForSpec = Effect.gen(function* () {
  const node = yield* ComputeNode
  yield* Effect.logInfo("no compute spec provided, waiting")
  const job = yield* Effect.raceFirst(node.nextSubmitted, Effect.as(node.terminateRequested, undefined))
  if (job === undefined) return undefined
  yield* Effect.logInfo("got spec, continue configuration")
  const now = Date.now()
  const begun = yield* Effect.result(
    node.transition("startup_begins", (state) => ({
      ...state,
      startTime: now,
      metrics: { ...state.metrics, wait_for_spec_ms: Math.max(0, now - state.startTime) }
    }))
  )
  return Result.isSuccess(begun) ? job : undefined
})

/** Runs the start under the deadline of lakebase mode. */
const start = (job: Job, tls: boolean) =>
  Effect.gen(function* () {
    const { lakebaseMode, pgInitTimeout } = yield* Params
    const started = startCompute(job.spec, { tls })
    const traced = job.parent === undefined ? started : Effect.withParentSpan(started, job.parent)
    if (!lakebaseMode) return yield* traced
    const duration = pgInitTimeout === undefined ? defaultInitTimeout : Duration.seconds(pgInitTimeout)
    return yield* Effect.timeoutOrElse(traced, {
      duration,
      orElse: () =>
        Effect.fail(
          new InitTimedOut({ message: `Postgres did not start within ${Duration.toSeconds(duration)} seconds` })
        )
    })
  })

/** One Postgres: brought up, run to its end, brought down. Ends when its last process is gone. */
const bringUp = (job: Job, tls: boolean) =>
  Effect.scoped(
    Effect.gen(function* () {
      const node = yield* ComputeNode
      const postgres = yield* Postgres
      const loops = yield* Loops
      yield* postgres.forget
      yield* loops.working("life", "start", Duration.sum(stages.start_compute, endLimit))
      const begun = yield* Effect.raceFirst(Effect.exit(start(job, tls)), Effect.as(node.terminateRequested, undefined))
      yield* loops.working("life", "end", endLimit)
      if (begun === undefined) return terminated
      if (Exit.isFailure(begun)) {
        const error = Cause.squash(begun.cause)
        yield* Effect.logError(`could not start the compute node: ${describeLine(error)}`)
        const failed = yield* Effect.result(
          node.transition("startup_failed", (state) => ({ ...state, error: describe(error) }))
        )
        if (job.done !== undefined) {
          yield* Deferred.fail(job.done, new ConfigurationFailed({ message: describe(error) }))
        }
        return Result.isSuccess(failed) ? ({ _tag: "Failed", error } satisfies Outcome) : terminated
      }
      const postmaster = begun.value
      const live = yield* Effect.result(
        node.transition("startup_succeeded", (state) => ({
          ...state,
          spec: job.spec,
          pending: undefined,
          keys: job.keys ?? state.keys
        }))
      )
      if (Result.isFailure(live)) return terminated
      const { metrics } = yield* node.state
      yield* Effect.logInfo("compute start finished").pipe(
        Effect.annotateLogs({ metrics: JSON.stringify(metrics), postmaster_pid: postmaster.pid })
      )
      if (job.done !== undefined) yield* Deferred.succeed(job.done, undefined)
      yield* Effect.logInfo("Waiting for Postgres to exit").pipe(
        Effect.annotateLogs({ postmaster_pid: postmaster.pid })
      )
      yield* loops.waiting("life")
      const served = yield* loops.run("worker", serve(postmaster, job.spec))
      yield* loops.working("life", "end", endLimit)
      if (served._tag !== "Exited") return served
      const text = `Postgres exited with code ${describeExit(served.exited)}, shutting down`
      yield* Effect.logInfo(text)
      yield* node.update((state) => ({ ...state, error: text }))
      return { _tag: "PostgresExited" } satisfies Outcome
    })
  )

/**
 * The position to hand back. Null where nothing of ours can be unsynced: another mode, or no Postgres was started.
 * Never runs beside a Postgres process.
 */
const settle = (job: Job) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const postgres = yield* Postgres
    const ending = yield* postgres.ending
    const { spec = job.spec } = yield* node.state // it may have been reconfigured since
    if (ending._tag === "NeverStarted") return null
    if (ending._tag !== "Gone") {
      const reason = ending._tag === "StillAlive" ? ending.message : "Postgres is still running"
      return yield* new SyncFailed({ message: `safekeepers are not synced: ${reason}` })
    }
    if (spec.spec.mode._tag !== "Primary") {
      yield* Effect.logInfo("not primary, not syncing safekeepers")
      return null
    }
    return yield* syncAtEnd(spec)
  })

/** Postgres' own code; without a Postgres `otherwise`. */
const codeOf = (ending: Ending, otherwise: number): number =>
  ending._tag === "Gone" ? exitCode(ending.exited) : ending._tag === "NeverStarted" ? otherwise : 1

const linger = (options: LifeOptions, message: string) =>
  Effect.andThen(Effect.logInfo(message), Effect.raceFirst(Effect.sleep(lingerTime), options.hurry))

/** The end of a node whose Postgres is gone: outcome to all waiters, exit code. A node that never had a spec does not linger. */
const end = (options: LifeOptions, synced: Result.Result<Lsn | null, SyncFailed>, code: number) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    if (Result.isFailure(synced)) {
      const text = describe(synced.failure)
      yield* Effect.logError(describeLine(synced.failure))
      yield* node.update((state) => ({ ...state, error: text }))
      yield* node.ended(Exit.fail(new TerminationFailed({ message: describeLine(synced.failure) })))
      return 1
    }
    const lsn = synced.success
    const { pending, spec, status } = yield* node.state
    // Nobody asked for this end: the status on the wire stays.
    if (isEnding(status)) {
      yield* Effect.ignore(node.transition("stopped", (state) => ({ ...state, terminateLsn: lsn })))
    }
    yield* node.ended(Exit.succeed({ lsn }))
    if (status === "termination_pending_fast" && (pending ?? spec) !== undefined) {
      yield* linger(options, "giving control plane 30s to collect the error before shutdown")
    }
    return code
  })

/** A failed start is readable for a while. Undefined: start again with this job; a number: the exit code. */
const afterFailure = (options: LifeOptions, job: Job) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const postgres = yield* Postgres
    const loops = yield* Loops
    const synced = yield* Effect.result(settle(job))
    while (true) {
      yield* loops.working("life", "end", endLimit)
      const next = yield* Effect.raceFirst(
        Effect.as(linger(options, "giving control plane 30s to collect the error before shutdown"), "over" as const),
        Effect.raceFirst(
          Effect.as(node.terminateRequested, "terminate" as const),
          Effect.as(node.refreshRequested, "refresh" as const)
        )
      )
      const ending = yield* postgres.ending
      const { status } = yield* node.state
      if (next === "terminate" || isEnding(status)) return yield* end(options, synced, codeOf(ending, 0))
      if (next === "over") {
        yield* node.ended(Exit.succeed({ lsn: null }))
        return Result.isFailure(synced) ? 1 : codeOf(ending, 1) || 1
      }
      const again = yield* Effect.raceFirst(refreshedJob, Effect.as(node.terminateRequested, undefined))
      if (again === "detached") {
        yield* end(options, synced, 1)
        return 1
      }
      if (again !== undefined) return again
    }
  })

/** Pulls the configuration once after a failed start; the job to start again with, or undefined. */
const refreshedJob = Effect.gen(function* () {
  const node = yield* ComputeNode
  // Asked for while the start was still on its way.
  if ((yield* node.state).status === "failed") yield* node.transition("refresh_requested")
  return yield* attempt(
    Effect.gen(function* () {
      const pulled = yield* pullSpec(undefined)
      if (pulled._tag === "Detached") {
        yield* node.transition("detached")
        return "detached" as const
      }
      yield* node.transition("startup_begins", (state) => ({ ...state, pending: pulled.spec }))
      return { spec: pulled.spec, parent: undefined, done: undefined, keys: pulled.keys } satisfies Job
    })
  ).pipe(Effect.catchTag("AttemptFailed", () => Effect.as(node.transition("refresh_gave_up"), undefined)))
}).pipe(Effect.catchTag("IllegalTransition", () => Effect.undefined)) // the end was asked for

/** Runs the node to its end; the value is the exit code of the process. */
export const life = (options: LifeOptions) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const postgres = yield* Postgres
    const first = options.first ?? (yield* waitForSpec)
    if (first === undefined) return yield* end(options, Result.succeed(null), 0)
    let job: Job = first
    while (true) {
      const outcome = yield* bringUp(job, options.tls)
      if (outcome._tag === "Failed") {
        if (outcome.error instanceof InitTimedOut) {
          yield* node.ended(Exit.succeed({ lsn: null }))
          return 1
        }
        const next = yield* afterFailure(options, job)
        if (typeof next === "number") return next
        job = next
        continue
      }
      const synced = yield* Effect.result(settle(job))
      const code = codeOf(yield* postgres.ending, 0)
      return yield* end(options, synced, outcome._tag === "Detached" ? code || 1 : code)
    }
  })
