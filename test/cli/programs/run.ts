/** A program of its own process for `run.test.ts`: the first argument names what it does. */
import * as Effect from "effect/Effect"
import { listen, Signals } from "../../../src/layers/Signals.ts"
import { run } from "../../../src/run.ts"

const say = (line: string) => Effect.sync(() => process.stdout.write(`${line}\n`))
const finalized = Effect.addFinalizer(() => Effect.andThen(Effect.sleep("100 millis"), say("finalized")))

const waiting = Effect.scoped(Effect.andThen(finalized, Effect.as(Effect.never, 0)))

/** Takes two signals, with a pause in which the second one has to be kept. */
const signals = Effect.gen(function* () {
  yield* say("ready")
  const { next } = yield* Signals
  yield* say(`first ${yield* next}`)
  yield* Effect.sleep("300 millis")
  yield* say(`second ${yield* next}`)
  return 5
}).pipe(Effect.provide(Signals.layer))

const programs: Readonly<Record<string, () => Effect.Effect<number, string>>> = {
  seven: () => Effect.succeed(7),
  quiet: () => Effect.as(Effect.sleep("300 millis"), 0),
  fails: () => Effect.fail("the reason"),
  dies: () => Effect.die(new Error("a bug")),
  throws: () => {
    setTimeout(() => {
      throw new Error("thrown in a timer")
    }, 50)
    return waiting
  },
  rejects: () => {
    setTimeout(() => void Promise.reject(new Error("rejected")), 50)
    return waiting
  },
  crashesButReturns: () => {
    setTimeout(() => {
      throw new Error("thrown in a timer")
    }, 50)
    return Effect.uninterruptible(Effect.as(Effect.sleep("200 millis"), 0))
  },
  talks: () =>
    Effect.as(
      Effect.sync(() => void process.stderr.write(`${"x".repeat(2_000_000)}\n`)),
      3
    ),
  keepsTalking: () =>
    Effect.sync(() => void process.stderr.write("line\n")).pipe(
      Effect.andThen(Effect.sleep("20 millis")),
      Effect.repeat({ times: 20 }),
      Effect.andThen(say("still here")),
      Effect.as(0)
    ),
  signals: () => signals
}

const program = programs[process.argv[2] ?? ""]
if (program === undefined) throw new Error("no such program")
listen()
run(program())
