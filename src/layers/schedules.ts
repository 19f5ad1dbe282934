/** Every schedule of retries, with its bound. Jitter is +-20 %, if nothing else is said. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"

/** Configuration of a start: 100 ms doubling, at most 5 s; `bootTimeout` is the bound. */
export const boot = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")]).pipe(
  Schedule.jittered
)
/** All requests of a start. */
export const bootTimeout = Duration.seconds(30)

/** `--sync-safekeepers` at a start, six runs: pauses 0, 1.1, 1.21, 1.331, 1.4641 s (reference/startup §11.2). */
export const syncAtStart = Schedule.recurs(1).pipe(
  Schedule.concat(Schedule.exponential("1100 millis", 1.1).pipe(Schedule.jittered, Schedule.upTo({ times: 4 })))
)

/** `--sync-safekeepers` at the end: 200 ms doubling, at most 2 s; `syncAtEndTimeout` is the bound. */
export const syncAtEnd = Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("2 seconds")]).pipe(
  Schedule.jittered
)
/** What the sync at the end may take in all (decision S3). */
export const syncAtEndTimeout = Duration.seconds(20)

/** Base backup: 500 ms times 1.5 each; the number of retries bounds it (reference/startup §12.1). */
export const basebackup = (retries: number) =>
  Schedule.exponential("500 millis", 1.5).pipe(Schedule.jittered, Schedule.upTo({ times: retries }))

/**
 * Attempts of a refresh that failed: `first` doubling, at most `longest`, for 10 minutes (decision C3). Each pause is from
 * half to one and a half of that: a fleet that has lost something at once must not come back in waves.
 */
export const refreshWith = (options: { readonly first: Duration.Input; readonly longest: Duration.Input }) =>
  Schedule.min([Schedule.exponential(options.first), Schedule.spaced(options.longest)]).pipe(
    Schedule.modifyDelay(({ duration }) =>
      Effect.map(Random.nextBetween(0.5, 1.5), (factor) => Duration.times(duration, factor))
    ),
    Schedule.upTo({ duration: "10 minutes" })
  )
/** Chosen by `bench/fleet.ts`, see docs/refresh.md. */
export const refresh = refreshWith({ first: "1 second", longest: "30 seconds" })
/** After a refresh that found nothing to do the next one waits so long, jittered: at least a second (decision C3). */
export const refreshHoldOff = Duration.millis(1250)

/** Waits about so long, +-20 %. */
export const sleepJittered = (about: Duration.Duration): Effect.Effect<void> =>
  Effect.flatMap(Random.nextBetween(0.8, 1.2), (factor) => Effect.sleep(Duration.times(about, factor)))

/** Console of pgbouncer, which may be starting: four attempts (reference/startup §19.1). */
export const consoleOfPgbouncer = Schedule.spaced("1 second").pipe(Schedule.jittered, Schedule.upTo({ times: 3 }))
