/** One accepted connection of the emulated servers: whole messages in, bytes out, with back-pressure both ways. */
import type { Socket } from "node:net"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

/** The connection ended, or the server ends it without another word. */
export class Dropped extends Data.TaggedError("Dropped")<{ readonly message: string }> {}

export interface Connection {
  /** Exactly that many bytes. */
  readonly read: (bytes: number) => Effect.Effect<Buffer, Dropped>
  /** The next message: its type as one character, and its body. */
  readonly message: Effect.Effect<{ readonly tag: string; readonly body: Buffer }, Dropped>
  /** Ends when the operating system can take more. */
  readonly send: (...parts: ReadonlyArray<Uint8Array>) => Effect.Effect<void, Dropped>
  /** Ends when the client has left. */
  readonly closed: Effect.Effect<void>
  /** Closes with a TCP reset. */
  readonly reset: Effect.Effect<void>
}

/** Bytes that may wait to be read before the client is slowed down. */
const highWater = 64 * 1024
/** Longest message of a client; commands are short. */
const maxMessage = 1024 * 1024
/** Time to flush what was said when the server ends the connection. */
const flushLimit = "500 millis"

const close = (socket: Socket): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (socket.destroyed) return resume(Effect.void)
    socket.once("close", () => resume(Effect.void))
    socket.destroySoon()
  }).pipe(Effect.timeoutOrElse({ duration: flushLimit, orElse: () => Effect.sync(() => void socket.destroy()) }))

const attach = (socket: Socket): Connection => {
  const closed = Deferred.makeUnsafe<void>()
  let buffered: Buffer = Buffer.alloc(0)
  let wanted = 0
  let ended: string | undefined
  let wake: (() => void) | undefined

  const end = (why: string): void => {
    ended ??= why
    Deferred.doneUnsafe(closed, Exit.void)
    wake?.()
  }
  socket.on("data", (chunk: Buffer) => {
    buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk])
    wake?.()
    if (buffered.length > Math.max(highWater, wanted)) socket.pause()
  })
  socket.on("end", () => end("the client closed the connection"))
  socket.on("error", (error) => end(`connection lost: ${error.message}`))
  socket.on("close", () => end("connection lost"))

  const read = (bytes: number) =>
    Effect.callback<Buffer, Dropped>((resume) => {
      const look = (): void => {
        if (buffered.length >= bytes) {
          const found = buffered.subarray(0, bytes)
          buffered = buffered.subarray(bytes)
          wake = undefined
          wanted = 0
          socket.resume()
          resume(Effect.succeed(found))
        } else if (ended !== undefined) {
          wake = undefined
          resume(Effect.fail(new Dropped({ message: ended })))
        }
      }
      wanted = bytes
      wake = look
      look()
      return Effect.sync(() => {
        wake = undefined
      })
    })

  const message = Effect.gen(function* () {
    const head = yield* read(5)
    const tag = head.toString("latin1", 0, 1)
    const length = head.readUInt32BE(1)
    if (length < 4 || length > maxMessage) return yield* new Dropped({ message: `invalid message length ${length}` })
    return { tag, body: yield* read(length - 4) }
  })

  const send = (...parts: ReadonlyArray<Uint8Array>) =>
    Effect.callback<void, Dropped>((resume) => {
      const lost = (): void => resume(Effect.fail(new Dropped({ message: ended ?? "connection lost" })))
      if (socket.destroyed || !socket.writable) return lost()
      if (parts.length > 1) socket.cork()
      let room = true
      for (const part of parts) room = socket.write(part)
      if (parts.length > 1) socket.uncork()
      if (room) return resume(Effect.void)
      const drained = (): void => {
        socket.off("close", lost)
        resume(Effect.void)
      }
      socket.once("drain", drained)
      socket.once("close", lost)
      return Effect.sync(() => {
        socket.off("drain", drained)
        socket.off("close", lost)
      })
    })

  return {
    read,
    message,
    send,
    closed: Deferred.await(closed),
    reset: Effect.sync(() => void socket.resetAndDestroy())
  }
}

/** Takes over a socket; it is closed with the Scope. */
export const open = (socket: Socket) =>
  Effect.acquireRelease(
    Effect.sync(() => attach(socket)),
    () => close(socket)
  )
