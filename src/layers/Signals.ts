/**
 * Signals that ask this process to end.
 *
 * The listeners are set once and stay: without one the default action would kill the process in the middle of its
 * shutdown, and leave Postgres behind. SIGHUP, SIGUSR1 and SIGUSR2 are ignored with a log line. Source: decision P1.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"

export const terminationSignals = ["SIGINT", "SIGTERM", "SIGQUIT"] as const
export type TerminationSignal = (typeof terminationSignals)[number]

const ignoredSignals = ["SIGHUP", "SIGUSR1", "SIGUSR2"] as const
type IgnoredSignal = (typeof ignoredSignals)[number]

type Received = TerminationSignal | IgnoredSignal

const ends = (signal: Received): signal is TerminationSignal => terminationSignals.some((one) => one === signal)

const early: Array<Received> = []
const keep = (signal: Received): void => void early.push(signal)
let receive = keep
let listening = false

/** Sets the listeners. What arrives before the service exists is kept for it. Called as early as possible. */
export const listen = (): void => {
  if (listening) return
  listening = true
  for (const signal of [...terminationSignals, ...ignoredSignals]) process.on(signal, () => receive(signal))
}

const make = Effect.gen(function* () {
  const termination = yield* Queue.unbounded<TerminationSignal>()
  const ignored = yield* Queue.sliding<Received>(8)
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      listen()
      receive = (signal) => {
        if (ends(signal)) Queue.offerUnsafe(termination, signal)
        else Queue.offerUnsafe(ignored, signal)
      }
      for (const signal of early.splice(0)) receive(signal)
    }),
    () =>
      Effect.sync(() => {
        receive = keep
      })
  )
  yield* Queue.take(ignored).pipe(
    Effect.flatMap((signal) => Effect.logInfo(`received ${signal}: ignored`)),
    Effect.forever,
    Effect.forkScoped
  )
  return Signals.of({ next: Queue.take(termination) })
})

export class Signals extends Context.Service<
  Signals,
  {
    /** The next signal that was not taken yet; none is lost, in their order. */
    readonly next: Effect.Effect<TerminationSignal>
  }
>()("compute/layers/Signals") {
  static readonly layer: Layer.Layer<Signals> = Layer.effect(
    Signals,
    Effect.suspend((): Effect.Effect<Signals["Service"], never, Scope.Scope> => make)
  )
}
