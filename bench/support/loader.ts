/** The load process (`load.ts`), seen from the benchmark. */
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import { BenchFailed, fail, start, within } from "./processes.ts"
import { LoadFailed, LoadReport, type LoadRequest } from "./protocol.ts"

const limit = "10 minutes"

const Answer = Schema.Union([LoadReport, LoadFailed])

/** Starts it; requests are measured one after the other. */
export const loader = Effect.gen(function* () {
  const process = yield* start(
    globalThis.process.execPath,
    [join(import.meta.dirname, "load.ts")],
    { stdio: ["ignore", "ignore", "inherit", "ipc"] },
    [["SIGTERM", "5 seconds"]]
  )
  const answers = yield* Queue.unbounded<unknown>()
  process.child.on("message", (message) => Queue.offerUnsafe(answers, message))
  const died = Effect.flatMap(process.exited, ({ code, signal }) => fail(`the load ended with ${signal ?? code}`))
  const send = (message: LoadRequest | "stop") => Effect.sync(() => void process.child.send(message))

  return {
    run: (request: LoadRequest): Effect.Effect<LoadReport, BenchFailed> =>
      send(request).pipe(
        Effect.andThen(Effect.raceFirst(Queue.take(answers), died)),
        Effect.flatMap(Schema.decodeUnknownEffect(Answer)),
        Effect.catchTag("SchemaError", (cause) =>
          Effect.fail(new BenchFailed({ message: "the load answers in another language", cause }))
        ),
        Effect.flatMap((answer) => ("failed" in answer ? fail(answer.failed) : Effect.succeed(answer))),
        within(limit, "the load did not end")
      ),
    /** Ends what is running; its report follows. */
    stop: send("stop")
  }
})
