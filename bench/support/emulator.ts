/** The emulated storage in a process of its own (`storage.ts`). */
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import { BenchFailed, fail, start, within } from "./processes.ts"
import { Documented, Done, type Ending, Ready, type Request } from "./protocol.ts"

export interface Emulator extends Ready {
  /** A configuration for a primary on that port, and the archive it will be made of. */
  readonly document: (port: number) => Effect.Effect<Documented, BenchFailed>
  /** How the safekeepers answer from now on. */
  readonly end: (ending: Ending) => Effect.Effect<void, BenchFailed>
  /** From now on the control plane serves this configuration for `attachedCompute`. */
  readonly attach: (config: string) => Effect.Effect<void, BenchFailed>
}

/** `initdb`, at most. */
const readyLimit = "180 seconds"
const answerLimit = "10 seconds"

/** Starts the storage on a data directory. */
export const emulator = Effect.fnUntraced(function* (dataDir: string, cacheDir: string) {
  const process = yield* start(
    globalThis.process.execPath,
    [join(import.meta.dirname, "storage.ts"), dataDir, cacheDir],
    { stdio: ["ignore", "ignore", "inherit", "ipc"] },
    [["SIGTERM", "20 seconds"]]
  )
  const answers = yield* Queue.unbounded<unknown>()
  process.child.on("message", (message) => Queue.offerUnsafe(answers, message))
  const died = Effect.flatMap(process.exited, ({ code, signal }) =>
    fail(`the emulated storage ended with ${signal ?? `code ${code}`}`)
  )

  const next = <A>(schema: Schema.Codec<A>, limit: "180 seconds" | "10 seconds") =>
    Effect.raceFirst(Queue.take(answers), died).pipe(
      Effect.flatMap(Schema.decodeUnknownEffect(schema)),
      Effect.catchTag("SchemaError", (cause) =>
        Effect.fail(new BenchFailed({ message: "the emulated storage answers in another language", cause }))
      ),
      within(limit, "the emulated storage did not answer")
    )
  const ask = <A>(request: Request, schema: Schema.Codec<A>) =>
    Effect.andThen(
      Effect.sync(() => void process.child.send(request)),
      next(schema, answerLimit)
    )

  const made: Emulator = {
    ...(yield* next(Ready, readyLimit)),
    document: (port) => ask({ _tag: "Document", port }, Documented),
    end: (ending) => Effect.asVoid(ask({ _tag: "End", ending }, Done)),
    attach: (config) => Effect.asVoid(ask({ _tag: "Attach", config }, Done))
  }
  return made
})
