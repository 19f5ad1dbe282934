/**
 * Waiting for a status by asking for it. Browser safe.
 *
 * It ends early where waiting is no use: the state machine has no way from the status that was seen, the node has failed,
 * or the process is gone. A node that does not listen yet is waited for.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type ComputeStatus, display, type Edge, isEnding, reachableFrom } from "../../domain/ComputeStatus.ts"
import type { ComputeStatusResponse } from "./documents.ts"
import { StatusUnattainable, Unreachable, WaitTimeout } from "./errors.ts"

export interface WaitOptions {
  /** For the whole of it; 5 minutes without it. */
  readonly timeout?: Duration.Input
  /**
   * Goes on while the node is `failed`, for callers that refresh it. Without this a failed node ends the wait, since it
   * comes back only when somebody asks it to.
   */
  readonly evenIfFailed?: boolean
}

const defaultTimeout = Duration.minutes(5)

/** Pauses between two questions, in milliseconds: a quarter of the time since the last change, within these bounds. */
const pauses = { least: 50, most: 1000 }

/** A node that has been seen counts as gone when nobody has answered for so long, in milliseconds. */
const goneAfter = 2000

/** A failed node moves on its own only to its end. */
const withoutHelp = ({ from, to }: Edge): boolean => from !== "failed" || isEnding(to)

const why = ({ error, status }: ComputeStatusResponse): string =>
  `the node is ${display(status)}${error === null ? "" : `: ${error}`}`

type Ask<E> = Effect.Effect<ComputeStatusResponse, E>

/** One answer, or undefined where nobody answered. Other errors end the wait: they would be the same the next time. */
const look = <E extends { readonly _tag: string }>(ask: Ask<E>) =>
  Effect.catch(ask, (error) =>
    error._tag === "Unreachable" || error._tag === "Unavailable" ? Effect.succeed(error) : Effect.fail(error)
  )

export const waitFor =
  <E extends { readonly _tag: string; readonly message: string }>(ask: Ask<E>, url: string) =>
  (
    wanted: ComputeStatus,
    { evenIfFailed = false, timeout = defaultTimeout }: WaitOptions = {}
  ): Effect.Effect<ComputeStatusResponse, E | StatusUnattainable | Unreachable | WaitTimeout> =>
    Effect.suspend(() => {
      const passes = evenIfFailed ? undefined : withoutHelp
      let seen: ComputeStatusResponse | undefined
      const waiting = Effect.gen(function* () {
        let changedAt = yield* Clock.currentTimeMillis
        let answeredAt = changedAt
        while (true) {
          const answer = yield* look(ask)
          const now = yield* Clock.currentTimeMillis
          if ("status" in answer) {
            if (answer.status !== seen?.status) changedAt = now
            answeredAt = now
            seen = answer
            if (seen.status === wanted) return seen
            if (!reachableFrom(seen.status, passes).has(wanted)) {
              const message = `it will not become ${display(wanted)}: ${why(seen)}`
              return yield* new StatusUnattainable({ message, wanted, seen })
            }
          } else if (seen !== undefined && (isEnding(seen.status) || now - answeredAt >= goneAfter)) {
            const message = `the node is gone, it was ${display(seen.status)} before: ${answer.message}`
            return yield* new Unreachable({ message, url, cause: answer })
          }
          yield* Effect.sleep(Math.min(Math.max((now - changedAt) / 4, pauses.least), pauses.most))
        }
      })
      return Effect.timeoutOrElse(waiting, {
        duration: timeout,
        orElse: () => {
          const state = seen === undefined ? "nobody answers there" : why(seen)
          return new WaitTimeout({ message: `it did not become ${display(wanted)} in time: ${state}`, wanted, seen })
        }
      })
    })
