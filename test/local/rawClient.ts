/** A socket for tests that look at bytes. */
import { connect } from "node:net"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { message } from "../../src/local/backendMessages.ts"

export class Closed extends Data.TaggedError("Closed")<{ readonly message: string }> {}

export const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/gu, ""), "hex")
export const cstr = (...texts: ReadonlyArray<string>): Buffer => Buffer.from(texts.map((text) => `${text}\0`).join(""))

/** Start-up packet of protocol 3.0. */
export const startup = (parameters: Readonly<Record<string, string>>): Buffer => {
  const body = Buffer.concat([hex("00030000"), cstr(...Object.entries(parameters).flat(), "")])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length + 4)
  return Buffer.concat([length, body])
}
export const query = (text: string): Buffer => message("Q", cstr(text))
export const password = (text: string): Buffer => message("p", cstr(text))

export interface Message {
  readonly tag: string
  readonly body: Buffer
}

/** Texts of the fields of an ErrorResponse. */
export const errorFields = ({ body }: Message): ReadonlyArray<string> =>
  body
    .toString("utf8")
    .split("\0")
    .filter((field) => field !== "")

export interface RawClient {
  readonly send: (...parts: ReadonlyArray<Uint8Array>) => Effect.Effect<void>
  /** Exactly that many bytes; fails with what came instead when the server closes before. */
  readonly read: (bytes: number) => Effect.Effect<Buffer, Closed>
  readonly message: Effect.Effect<Message, Closed>
  /** Messages up to and including ReadyForQuery. */
  readonly untilReady: Effect.Effect<ReadonlyArray<Message>, Closed>
  /** Everything up to the end of the connection. */
  readonly rest: Effect.Effect<Buffer>
}

export const open = (port: number) =>
  Effect.gen(function* () {
    let received: Buffer = Buffer.alloc(0)
    let ended = false
    let wake = (): void => {}
    const socket = yield* Effect.acquireRelease(
      Effect.callback<ReturnType<typeof connect>, Closed>((resume) => {
        const made = connect(port, "127.0.0.1", () => resume(Effect.succeed(made)))
        made.on("error", (cause) => resume(Effect.fail(new Closed({ message: cause.message }))))
        made.on("data", (chunk: Buffer) => {
          received = Buffer.concat([received, chunk])
          wake()
        })
        made.on("close", () => {
          ended = true
          wake()
        })
      }),
      (made) => Effect.sync(() => void made.destroy())
    )
    const when = <A, E>(look: () => Effect.Effect<A, E> | undefined): Effect.Effect<A, E> =>
      Effect.callback<A, E>((resume) => {
        wake = () => {
          const found = look()
          if (found !== undefined) resume(found)
        }
        wake()
      })
    const read = (bytes: number) =>
      when<Buffer, Closed>(() => {
        if (received.length >= bytes) {
          const found = received.subarray(0, bytes)
          received = received.subarray(bytes)
          return Effect.succeed(found)
        }
        return ended ? Effect.fail(new Closed({ message: `closed after ${received.toString("hex")}` })) : undefined
      })
    const one = Effect.gen(function* () {
      const head = yield* read(5)
      return { tag: head.toString("latin1", 0, 1), body: yield* read(head.readUInt32BE(1) - 4) }
    })
    const untilReady = Effect.gen(function* () {
      const found: Array<Message> = []
      while (found.at(-1)?.tag !== "Z") found.push(yield* one)
      return found
    })
    const client: RawClient = {
      send: (...parts) => Effect.sync(() => void socket.write(Buffer.concat(parts))),
      read,
      message: one,
      untilReady,
      rest: when(() => (ended ? Effect.succeed(received) : undefined))
    }
    return client
  })
