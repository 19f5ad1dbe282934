/**
 * Serves a running Postgres: one worker for every change of its configuration, until Postgres or the node ends.
 *
 * `/configure` applies the spec that it brings; a refresh pulls one, compares it with what was applied, and applies it if
 * it differs. A spec becomes current only once it is applied. A failed apply makes the applied state unknown: until one
 * has succeeded nothing counts as equal. Source: reference/runtime, decisions C1–C4, C13, C14, H6.
 */
import { isDeepStrictEqual } from "node:util"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type { ComputeState } from "../../domain/ComputeState.ts"
import { isEnding } from "../../domain/ComputeStatus.ts"
import { describe, describeLine } from "../../domain/describe.ts"
import type { ParsedSpec } from "../../domain/ParsedSpec.ts"
import type { Exited } from "../../layers/Children.ts"
import { ComputeNode, ConfigurationFailed } from "../../layers/ComputeNode.ts"
import { Loops } from "../../layers/Loops.ts"
import type { Postmaster } from "../../layers/Postgres.ts"
import * as schedules from "../../layers/schedules.ts"
import type { Job } from "../Job.ts"
import { attempt, pullSpec } from "./pullSpec.ts"

/** Why the service ended. */
export type Served =
  | { readonly _tag: "Exited"; readonly exited: Exited }
  | { readonly _tag: "Terminated" }
  | { readonly _tag: "Detached" }

const terminated: Served = { _tag: "Terminated" }
const detached: Served = { _tag: "Detached" }

/** What would be applied, without what only names the operation. */
const content = ({ spec }: ParsedSpec) => ({ ...spec, operation_uuid: undefined })

const same = (a: ParsedSpec | undefined, b: ParsedSpec): boolean =>
  a !== undefined && isDeepStrictEqual(content(a), content(b))

/** An apply is bounded by the deadlines of its statements; one that takes longer than this is stuck. */
const workLimit = Duration.minutes(60)

/** The machinery of the catalogs is large and not needed before the node runs. */
const machinery = Effect.promise(() => import("./reconfigure.ts"))

const reconfigure = (spec: ParsedSpec, full: boolean) =>
  Effect.flatMap(machinery, (module) => module.reconfigure(spec, full))

export const serve = (postmaster: Postmaster, first: ParsedSpec) =>
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const loops = yield* Loops
    yield* Effect.forkScoped(machinery) // the first notification does not wait for it
    let applied: ParsedSpec | undefined = first
    let current = first

    const ended: Effect.Effect<Served> = Effect.raceFirst(
      Effect.map(postmaster.exited, (exited): Served => ({ _tag: "Exited", exited })),
      Effect.as(node.terminateRequested, terminated)
    )

    /** Applies a spec; from its beginning until its success no spec counts as applied. */
    const apply = (spec: ParsedSpec) =>
      Effect.suspend(() => {
        const full = applied === undefined
        applied = undefined
        return Effect.tap(reconfigure(spec, full), () =>
          Effect.sync(() => {
            applied = spec
            current = spec
          })
        )
      })

    const busy =
      (what: string) =>
      <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
        Effect.ensuring(Effect.andThen(loops.working("worker", what, workLimit), work), loops.waiting("worker"))

    const live =
      (spec: ParsedSpec) =>
      (state: ComputeState): ComputeState => ({ ...state, spec, pending: undefined })

    const configure = (job: Job) =>
      Effect.gen(function* () {
        yield* node.transition("configuration_begins")
        const work = apply(job.spec)
        const exit = yield* Effect.exit(job.parent === undefined ? work : Effect.withParentSpan(work, job.parent))
        if (Exit.isSuccess(exit)) {
          yield* node.transition("configuration_succeeded", live(job.spec))
          if (job.done !== undefined) yield* Deferred.succeed(job.done, undefined)
          return
        }
        const error = Cause.squash(exit.cause)
        const text = describe(error)
        yield* Effect.logError(`could not configure compute node: ${describeLine(error)}`)
        yield* node.transition("configuration_failed", (state) => ({ ...state, pending: undefined, error: text }))
        if (job.done !== undefined) yield* Deferred.fail(job.done, new ConfigurationFailed({ message: text }))
      }).pipe(busy("configure"))

    /** One fetch and one apply; whether there was something to do. */
    const pullAndApply = Effect.gen(function* () {
      const pulled = yield* pullSpec(current)
      if (pulled._tag === "Detached") {
        yield* node.transition("detached")
        return "detached" as const
      }
      const unchanged = same(applied, pulled.spec)
      if (!unchanged) yield* apply(pulled.spec)
      yield* node.transition("refresh_succeeded", (state) => ({
        ...live(pulled.spec)(state),
        keys: pulled.keys ?? state.keys
      }))
      return unchanged ? ("unchanged" as const) : ("applied" as const)
    })

    const refresh = attempt(pullAndApply).pipe(
      busy("refresh"),
      Effect.retry({ schedule: schedules.refresh, while: (error) => error._tag === "AttemptFailed" && error.again }),
      Effect.catchTags({
        // The node stays in `refresh_configuration_pending` with the error; the next notification starts over.
        AttemptFailed: () => Effect.succeed("gave up" as const),
        IllegalTransition: () => Effect.succeed("ending" as const)
      })
    )

    /** A caller that is still waiting when the end comes is told by the end. */
    const configureUntilEnd = (job: Job) => Effect.raceFirst(Effect.ignore(configure(job)), Effect.asVoid(ended))

    /**
     * Serves a notification. It may have come while the node was starting, or while another one was served: then the
     * status does not show it yet. A spec that was accepted since goes first.
     */
    const refreshUntilEnd = Effect.gen(function* () {
      while (true) {
        const due = yield* Effect.result(node.transition("refresh_requested"))
        if (Result.isSuccess(due)) return yield* Effect.raceFirst(refresh, ended)
        const job = yield* Effect.raceFirst(node.nextSubmitted, Effect.as(ended, undefined))
        if (job === undefined) return undefined
        yield* configureUntilEnd(job)
      }
    })

    let holdOff = false
    while (true) {
      const refreshDue = holdOff
        ? Effect.andThen(schedules.sleepJittered(schedules.refreshHoldOff), node.refreshRequested)
        : node.refreshRequested
      const event = yield* Effect.raceFirst(
        ended,
        Effect.raceFirst(
          Effect.map(node.nextSubmitted, (job) => ({ _tag: "Configure", job }) as const),
          Effect.as(refreshDue, { _tag: "Refresh" } as const)
        )
      )
      if (event._tag === "Configure") {
        yield* configureUntilEnd(event.job)
        holdOff = false
      } else if (event._tag === "Refresh") {
        const outcome = yield* refreshUntilEnd
        if (outcome === "detached") return detached
        holdOff = outcome === "unchanged"
      } else return isEnding((yield* node.state).status) ? terminated : event
    }
  })
