import { once } from "node:events"
import * as Net from "node:net"
import { Worker } from "node:worker_threads"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fairTimeoutOrElse } from "../../src/layers/fairTimeout.ts"

/** A server in a thread of its own; it answers one byte and says so in shared memory. */
const answering = `
  const { workerData, parentPort } = require("node:worker_threads")
  const server = require("node:net").createServer((socket) => {
    socket.on("error", () => {})
    socket.once("data", () => socket.write("!", () => {
      Atomics.store(workerData, 0, 1)
      Atomics.notify(workerData, 0)
    }))
  })
  server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port))
`

const connected = Effect.gen(function* () {
  const answered = new Int32Array(new SharedArrayBuffer(4))
  const worker = yield* Effect.acquireRelease(
    Effect.sync(() => new Worker(answering, { eval: true, workerData: answered })),
    (worker) => Effect.promise(() => worker.terminate())
  )
  const [port] = yield* Effect.promise(() => once(worker, "message"))
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => Net.connect({ port: Number(port), host: "127.0.0.1" })),
    (socket) => Effect.sync(() => socket.destroy())
  )
  yield* Effect.promise(() => once(socket, "connect"))
  return { answered, socket }
})

const answer = (socket: Net.Socket): Effect.Effect<string> =>
  Effect.callback((resume) => void socket.once("data", (bytes) => resume(Effect.succeed(String(bytes)))))

/** This thread does nothing at all for so long, in milliseconds. */
const freeze = (millis: number): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis)

describe("fairTimeoutOrElse", () => {
  it.live("an answer that has arrived while the process slept over the deadline counts", () =>
    Effect.gen(function* () {
      const { answered, socket } = yield* connected
      const asked = Effect.andThen(
        Effect.sync(() => {
          socket.write("?")
          setImmediate(() => {
            Atomics.wait(answered, 0, 0, 10_000)
            freeze(40)
          })
        }),
        answer(socket)
      )
      const result = yield* fairTimeoutOrElse({ duration: 20, orElse: () => Effect.succeed("late") })(asked)
      assert.strictEqual(result, "!")
    })
  )

  it.live("without an answer the deadline holds, and nothing goes on behind it", () =>
    Effect.gen(function* () {
      const { socket } = yield* connected
      let over = false
      const stop = Effect.sync(() => {
        over = true
      })
      const waiting = Effect.onInterrupt(answer(socket), () => stop)
      const result = yield* fairTimeoutOrElse({ duration: 20, orElse: () => Effect.succeed("late") })(waiting)
      assert.deepStrictEqual([result, over], ["late", true])
    })
  )

  it.live("what fails in time has failed", () =>
    Effect.gen(function* () {
      const result = yield* Effect.flip(
        fairTimeoutOrElse({ duration: 20, orElse: () => Effect.succeed("late") })(Effect.fail("refused"))
      )
      assert.strictEqual(result, "refused")
    })
  )
})
