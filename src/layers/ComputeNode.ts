/**
 * The one holder of the node's state.
 *
 * The status changes by `transition` alone; gauge and waiters hang on `changes`. `submitSpec`, `terminate` and
 * `requestRefresh` are what the HTTP handlers and the signals call; `programs/Compute` serves them. Every waiter ends:
 * `ended` completes those of the end and fails those whose spec will not be brought up any more.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Tracer from "effect/Tracer"
import type { ComputeMetrics } from "../domain/ComputeMetrics.ts"
import type { ComputeState } from "../domain/ComputeState.ts"
import * as ComputeStatus from "../domain/ComputeStatus.ts"
import type { Lsn } from "../domain/Lsn.ts"
import { identityMismatch, type ParsedSpec } from "../domain/ParsedSpec.ts"

/** The machine has no such edge. Nothing was changed. The message is a promise on the wire (412). */
export class IllegalTransition extends Data.TaggedError("IllegalTransition")<{
  readonly from: ComputeStatus.ComputeStatus
  readonly event: ComputeStatus.ComputeEvent
}> {
  override get message(): string {
    return `invalid compute status: ${ComputeStatus.display(this.from)}`
  }
}

/** The spec is for another tenant, timeline or mode than the running one (decision C13). Nothing was changed. */
export class OtherCompute extends Data.TaggedError("OtherCompute")<{ readonly message: string }> {}

/** The accepted spec was not brought up. `message` may have several lines (reference/startup §22). */
export class ConfigurationFailed extends Data.TaggedError("ConfigurationFailed")<{ readonly message: string }> {}

/** The end was reached, but the last sync of the safekeepers failed. */
export class TerminationFailed extends Data.TaggedError("TerminationFailed")<{ readonly message: string }> {}

/** How long the node lingers after the end; Postgres is stopped in the same way (decision P1). */
export type TerminateKind = "fast" | "immediate"

/** A spec that waits to be brought up. */
export interface SubmittedSpec {
  readonly spec: ParsedSpec
  /** Span of the request it came with. */
  readonly parent: Tracer.AnySpan | undefined
  readonly done: Deferred.Deferred<void, ConfigurationFailed>
}

export interface Ended {
  /** Position after the last safekeeper sync; null where nothing had to be synced. */
  readonly lsn: Lsn | null
}

export class ComputeNode extends Context.Service<
  ComputeNode,
  {
    readonly state: Effect.Effect<ComputeState>
    /** The current state first, then every change, none skipped. */
    readonly changes: Stream.Stream<ComputeState>
    /** The only way to change the status. `also` changes other members in the same step. */
    readonly transition: (
      event: ComputeStatus.ComputeEvent,
      also?: (state: ComputeState) => ComputeState
    ) => Effect.Effect<void, IllegalTransition>
    /** Changes members other than the status. */
    readonly update: (change: (state: ComputeState) => ComputeState) => Effect.Effect<void>
    readonly recordMetrics: (metrics: Partial<ComputeMetrics>) => Effect.Effect<void>
    /** Accepts a spec for the worker; returns its outcome. A caller that leaves does not stop the work. */
    readonly submitSpec: (
      spec: ParsedSpec,
      parent: Tracer.AnySpan | undefined
    ) => Effect.Effect<Effect.Effect<void, ConfigurationFailed>, IllegalTransition | OtherCompute>
    /** Specs that were accepted, in order; after a changed certificate the live one. */
    readonly nextSubmitted: Effect.Effect<SubmittedSpec>
    /** The server certificate was replaced: the live spec is applied once more. Refused: try again when that is over. */
    readonly certificateChanged: Effect.Effect<void, IllegalTransition>
    /** Asks for the end and returns its outcome, which all callers share. */
    readonly terminate: (
      kind: TerminateKind
    ) => Effect.Effect<Effect.Effect<Ended, TerminationFailed>, IllegalTransition>
    /** Ends once the end has been asked for. */
    readonly terminateRequested: Effect.Effect<void>
    /** Publishes the outcome of the end to all who wait for it. */
    readonly ended: (outcome: Exit.Exit<Ended, TerminationFailed>) => Effect.Effect<void>
    /** Notification that the configuration may be stale (`POST /refresh_configuration`). */
    readonly requestRefresh: Effect.Effect<void, IllegalTransition>
    /** Ends with the next notification that was not served yet; many notifications are one. */
    readonly refreshRequested: Effect.Effect<void>
    /** An attempt at a refresh begins. It serves every notification so far; until it has ended more are refused. */
    readonly beginRefresh: Effect.Effect<void, IllegalTransition>
  }
>()("compute/layers/ComputeNode") {
  /** @param initial state before anything happened, status `empty` */
  static readonly layer = (initial: ComputeState) => Layer.effect(ComputeNode, make(initial))
}

const ended = "the compute ended"

const refusalOf =
  (wanted: ParsedSpec) =>
  ({ spec, status }: ComputeState): OtherCompute | undefined => {
    const message = status === "running" && spec !== undefined ? identityMismatch(spec, wanted) : undefined
    return message === undefined ? undefined : new OtherCompute({ message })
  }

const make = Effect.fnUntraced(function* (initial: ComputeState) {
  const ref = yield* SubscriptionRef.make(initial)
  const submitted = yield* Queue.unbounded<SubmittedSpec>()
  const refreshes = yield* Queue.sliding<void>(1)
  const terminating = yield* Deferred.make<void>()
  const outcome = yield* Deferred.make<Ended, TerminationFailed>()
  const waiting = new Set<Deferred.Deferred<void, ConfigurationFailed>>()

  /** Returns the state that was left. `refusal`: why this state is not left, though the machine has the edge. */
  const move = <E = never>(
    event: ComputeStatus.ComputeEvent,
    also = (state: ComputeState): ComputeState => state,
    refusal = (_: ComputeState): E | undefined => undefined
  ) =>
    SubscriptionRef.modifyEffect(
      ref,
      (state): Effect.Effect<readonly [ComputeState, ComputeState], E | IllegalTransition> => {
        const to = ComputeStatus.next(state.status, event)
        if (to === undefined) return Effect.fail(new IllegalTransition({ from: state.status, event }))
        const refused = refusal(state)
        if (refused !== undefined) return Effect.fail(refused)
        const changed = also({ ...state, status: to, error: to === "running" ? undefined : state.error })
        const log =
          to === state.status
            ? Effect.void
            : Effect.logInfo(
                `Changing compute status from ${ComputeStatus.display(state.status)} to ${ComputeStatus.display(to)}`
              )
        return Effect.as(log, [state, changed] as const)
      }
    )

  const update = (change: (state: ComputeState) => ComputeState) => SubscriptionRef.update(ref, change)

  return ComputeNode.of({
    state: SubscriptionRef.get(ref),
    changes: SubscriptionRef.changes(ref),
    transition: (event, also) => Effect.asVoid(move(event, also)),
    update,
    recordMetrics: (metrics) => update((state) => ({ ...state, metrics: { ...state.metrics, ...metrics } })),
    submitSpec: (spec, parent) =>
      Effect.uninterruptible(
        Effect.gen(function* () {
          const done = yield* Deferred.make<void, ConfigurationFailed>()
          yield* move("spec_accepted", (state) => ({ ...state, pending: spec }), refusalOf(spec))
          waiting.add(done)
          yield* Queue.offer(submitted, { spec, parent, done })
          // The end was reached by itself, while the status still allowed it.
          if (yield* Deferred.isDone(outcome)) yield* Deferred.fail(done, new ConfigurationFailed({ message: ended }))
          return Effect.ensuring(
            Deferred.await(done),
            Effect.sync(() => waiting.delete(done))
          )
        })
      ),
    nextSubmitted: Queue.take(submitted),
    certificateChanged: Effect.uninterruptible(
      Effect.gen(function* () {
        const { pending, spec } = yield* move("certificate_changed", (state) => ({
          ...state,
          pending: state.pending ?? state.spec
        }))
        // A spec that waits to be applied brings the new certificate along.
        if (pending === undefined && spec !== undefined) {
          yield* Queue.offer(submitted, {
            spec,
            parent: undefined,
            done: yield* Deferred.make<void, ConfigurationFailed>()
          })
        }
      })
    ),
    terminate: (kind) =>
      Effect.gen(function* () {
        yield* move(kind === "fast" ? "terminate_fast" : "terminate_immediate")
        yield* Deferred.succeed(terminating, undefined)
        return Deferred.await(outcome)
      }),
    terminateRequested: Deferred.await(terminating),
    ended: (exit) =>
      Effect.gen(function* () {
        yield* Deferred.done(outcome, exit)
        const cause = Exit.isSuccess(exit) ? "the compute was terminated" : ended
        for (const done of waiting) yield* Deferred.fail(done, new ConfigurationFailed({ message: cause }))
      }),
    requestRefresh: Effect.andThen(move("refresh_requested"), Effect.asVoid(Queue.offer(refreshes, undefined))),
    refreshRequested: Queue.take(refreshes),
    beginRefresh: Effect.andThen(move("refresh_begins"), Effect.asVoid(Queue.clear(refreshes)))
  })
})
