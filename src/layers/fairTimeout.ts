/**
 * A deadline that does not punish what was in time.
 *
 * On a busy machine a process may sleep over a deadline while the answer is in its socket already. Node then runs the timers
 * first: the answer would come too late because nobody has looked.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** Everything that has arrived is read in the first turn of the event loop, and has been used after the second. */
const lookAgain = Effect.callback<void>((resume) => {
  const first = setImmediate(() => {
    second = setImmediate(() => resume(Effect.void))
  })
  let second: NodeJS.Immediate | undefined
  return Effect.sync(() => {
    clearImmediate(first)
    clearImmediate(second)
  })
})

/** As `Effect.timeoutOrElse`, but what has arrived when the time is up still counts. */
export const fairTimeoutOrElse =
  <A2, E2, R2>(options: { readonly duration: Duration.Input; readonly orElse: () => Effect.Effect<A2, E2, R2> }) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A | A2, E | E2, R | R2> =>
    Effect.raceFirst(
      Effect.asSome(self),
      Effect.sleep(options.duration).pipe(Effect.andThen(lookAgain), Effect.as(Option.none<A>()))
    ).pipe(
      Effect.flatMap(
        (result): Effect.Effect<A | A2, E2, R2> =>
          Option.isSome(result) ? Effect.succeed(result.value) : options.orElse()
      )
    )
