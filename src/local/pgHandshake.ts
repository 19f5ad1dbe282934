/**
 * The beginning of a connection, and the few client messages that have a content.
 *
 * Source: reference/storage-protocols §0.3.
 */
import * as Effect from "effect/Effect"
import * as Backend from "./backendMessages.ts"
import { type Connection, Dropped } from "./PgConnection.ts"
import type { Authentication, Claims } from "./StorageAuth.ts"

const cancelRequest = 80877102
const sslRequest = 80877103
const gssEncRequest = 80877104

/** Ends the connection without a word to the client. */
export const drop = (message: string): Effect.Effect<never, Dropped> => Effect.fail(new Dropped({ message }))

const parameters = (body: Buffer): Record<string, string> => {
  const words = body.toString("utf8").split("\0")
  const found: Record<string, string> = {}
  for (let index = 0; index + 1 < words.length; index += 2) {
    const name = words[index]
    if (name === undefined || name === "") break
    found[name] = words[index + 1] ?? ""
  }
  return found
}

/** Reads the start-up parameters; refuses TLS and GSS encryption on the way. */
export const startup = Effect.fnUntraced(function* (connection: Connection) {
  while (true) {
    const head = yield* connection.read(4)
    if (head[0] === 0x16) return yield* drop("direct SSL negotiation but no TLS support")
    const length = head.readUInt32BE()
    if (length < 8 || length > 10_000) return yield* drop(`invalid startup packet message length ${length}`)
    const body = yield* connection.read(length - 4)
    const code = body.readUInt32BE()
    if (code === sslRequest || code === gssEncRequest) yield* connection.send(Buffer.from("N"))
    else if (code === cancelRequest) return yield* drop("cancel request")
    else if (code >>> 16 === 1234) return yield* drop("Unrecognized request code")
    else return parameters(body.subarray(4))
  }
})

/** Lets the client in, or refuses it. `onPassword` is told what the client sent. */
export const authenticate = Effect.fnUntraced(function* (
  connection: Connection,
  authentication: Authentication,
  onPassword: (password: string) => void
) {
  const utf8 = Backend.parameterStatus("client_encoding", "UTF8")
  if (authentication._tag === "Trust") {
    yield* connection.send(
      Backend.authenticationOk,
      utf8,
      Backend.parameterStatus("integer_datetimes", "on"),
      Backend.parameterStatus("server_version", "14.1"),
      Backend.readyForQuery
    )
    return undefined
  }
  yield* connection.send(Backend.authenticationCleartextPassword)
  const { tag, body } = yield* connection.message
  if (tag !== "p") return yield* drop(`unexpected message type: ${tag}`)
  const password = text(body)
  onPassword(password)
  const claims: Claims = yield* authentication
    .verify(password)
    .pipe(
      Effect.catchTag("TokenRefused", (refused) =>
        Effect.andThen(
          connection.send(Backend.errorResponse("JWT authentication error")),
          drop(`JWT authentication error: ${refused.message}`)
        )
      )
    )
  yield* connection.send(Backend.authenticationOk, utf8, Backend.readyForQuery)
  return claims
})

/** A text that ends with NUL. */
export const text = (body: Buffer): string => body.toString("utf8").replace(/\0$/u, "")

/** Command of a Parse message; parameters are refused. */
export const parsedCommand = (body: Buffer): Effect.Effect<string, Dropped> => {
  const name = body.indexOf(0)
  const end = body.indexOf(0, name + 1)
  if (name < 0 || end < 0 || body.length < end + 3) return drop("malformed Parse")
  if (body.readUInt16BE(end + 1) !== 0) return drop("query params not implemented")
  return Effect.succeed(body.toString("utf8", name + 1, end))
}

/** Refuses named portals and parameters in a Bind message. */
export const checkBind = (body: Buffer): Effect.Effect<void, Dropped> => {
  const statement = body.indexOf(0, 1)
  if (body[0] !== 0) return drop("named portals not implemented")
  if (statement < 0 || body.length < statement + 3) return drop("malformed Bind")
  const formats = body.readUInt16BE(statement + 1)
  const values = statement + 3 + 2 * formats
  if (body.length < values + 2) return drop("malformed Bind")
  return body.readUInt16BE(values) === 0 ? Effect.void : drop("query params not implemented")
}

/** Refuses Describe of a portal. */
export const checkDescribe = (body: Buffer): Effect.Effect<void, Dropped> =>
  body.toString("latin1", 0, 1) === "S" ? Effect.void : drop("only prepared statement Describe is implemented")

/** Refuses named portals and row limits in an Execute message. */
export const checkExecute = (body: Buffer): Effect.Effect<void, Dropped> =>
  body.length === 5 && body.every((byte) => byte === 0)
    ? Effect.void
    : drop("named portals and row limits not implemented")
