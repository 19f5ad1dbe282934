/**
 * Simple-query client of the PostgreSQL protocol, for Postgres, the pageserver and the safekeepers.
 *
 * What those servers need: no SSLRequest, no Flush, start-up parameters in a given order, and no trust in BackendKeyData
 * or `server_version` ever coming. Texts only; several statements in one query; COPY … TO STDOUT. A session serves one
 * call at a time. A query that is interrupted and a COPY that fails close the session: an answer left unread would go to
 * the next caller. No deadline but the one on connecting: each caller sets its own.
 *
 * Source: reference/storage-protocols §0.3, §1.4, §9.
 */
import { randomBytes } from "node:crypto"
import * as Net from "node:net"
import * as PgAuth from "@effect/sql-pg/PgAuth"
import * as PgProtocol from "@effect/sql-pg/PgProtocol"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { PostgresTarget } from "../domain/ConnString.ts"
import { type Batch, PgInbox } from "./PgInbox.ts"

/** The server refused (then `code` is the SQLSTATE and `message` its text), or the connection broke. */
export class PgError extends Data.TaggedError("PgError")<{
  readonly message: string
  readonly code?: string
  readonly cause?: unknown
}> {}

/** Shutting down, restarting, not started yet. */
const notThere = new Set(["57P01", "57P02", "57P03"])

/** There is no server to talk to now: nobody answered, it went away, or it takes no connections. */
export const isUnreachable = ({ code }: PgError): boolean => code === undefined || notThere.has(code)

/** Answer to one statement, values as text. `columns` and `rows` are empty for a statement without a result. */
export interface ResultSet {
  /** Command tag, such as `SELECT 3`. */
  readonly tag: string
  readonly columns: ReadonlyArray<string>
  readonly rows: ReadonlyArray<ReadonlyArray<string | null>>
}

/** A COPY … TO STDOUT under way. */
export interface CopyOut {
  /**
   * The next piece of payload, valid until `next` is run again; `undefined` after the last one, once the server has
   * sent CopyDone, CommandComplete and ReadyForQuery. Asking is the back-pressure. May be interrupted and run again.
   */
  readonly next: Effect.Effect<Uint8Array | undefined, PgError>
}

export interface Session {
  /** Runs a script; all result sets, or the first error once the server is ready for the next query. */
  readonly query: (sql: string) => Effect.Effect<ReadonlyArray<ResultSet>, PgError>
  /** Starts a COPY … TO STDOUT (or a pageserver's `basebackup`); ends with the server's CopyOutResponse. */
  readonly copyOut: (sql: string) => Effect.Effect<CopyOut, PgError>
}

export interface ConnectOptions {
  readonly target: PostgresTarget
  /** Start-up parameters after `client_encoding`, `user` and `database`, in this order; `options` replaces the target's. */
  readonly parameters?: { readonly options?: string; readonly [name: string]: string | undefined }
  /** Comes before the target's. */
  readonly password?: Redacted.Redacted<string> | undefined
  /** From the start until the server is ready for queries, name look-up included. */
  readonly connectTimeout?: Duration.Input
  /** Size of the buffer that the socket reads into, and of the two for COPY payload. */
  readonly bufferBytes?: number
}

const defaultConnectTimeout = Duration.seconds(10)
/** What Node reads at once, too. */
const defaultBufferBytes = 64 * 1024

const refused = (fields: PgProtocol.ErrorFields): PgError =>
  new PgError({
    message: fields.message ?? "the server reported an error without a text",
    ...(fields.code === undefined ? {} : { code: fields.code })
  })

const utf8 = new TextDecoder()
const text = (value: Uint8Array | null): string | null => (value === null ? null : utf8.decode(value))

const frame = (type: string, body: Buffer): Buffer => {
  const out = Buffer.allocUnsafe(5 + body.length)
  out.write(type, 0, "latin1")
  out.writeInt32BE(4 + body.length, 1)
  body.copy(out, 5)
  return out
}

const simpleQuery = (sql: string): Buffer => frame("Q", Buffer.from(`${sql}\0`))

/**
 * The extended protocol in one go, unnamed and without parameters. A pageserver words its errors in full only here
 * (reference/storage-protocols §0.3); it knows no Flush and needs no Describe.
 */
const extendedQuery = (sql: string): Buffer =>
  Buffer.concat([
    frame("P", Buffer.from(`\0${sql}\0\0\0`)),
    frame("B", Buffer.from("\0\0\0\0\0\0\0\0")),
    frame("E", Buffer.from("\0\0\0\0\0")),
    PgProtocol.encodeSync()
  ])

const address = ({ host, port }: PostgresTarget): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`

/** A socket, what comes from it, and why nothing more will come. */
class Connection {
  readonly target: PostgresTarget
  readonly socket: Net.Socket
  /** A query was sent and its ReadyForQuery has not come; also during the handshake. */
  busy = true
  private readonly inbox: PgInbox
  private failure: PgError | undefined

  constructor(options: ConnectOptions) {
    const { target } = options
    this.target = target
    this.inbox = new PgInbox(options.bufferBytes ?? defaultBufferBytes)
    const onread = { buffer: this.inbox.input, callback: this.onRead }
    this.socket = Net.connect(
      target.host.startsWith("/")
        ? { path: `${target.host}/.s.PGSQL.${target.port}`, onread }
        : { host: target.host, port: target.port, noDelay: true, onread }
    )
    let message = `cannot connect to ${address(target)}`
    this.socket.once("connect", () => {
      message = `connection to ${address(target)} lost`
    })
    this.socket.on("error", (error) => {
      this.fail(new PgError({ message, cause: error instanceof AggregateError ? error.errors.at(-1) : error }))
    })
    this.socket.once("close", () => {
      this.fail(new PgError({ message: `connection to ${address(target)} closed by the server` }))
    })
  }

  /** What has come, or what comes next. */
  readonly next: Effect.Effect<Batch, PgError> = Effect.suspend(
    () =>
      this.take() ??
      Effect.callback<Batch, PgError>((resume) => {
        this.inbox.waiter = () => {
          const taken = this.take()
          if (taken === undefined) return
          this.inbox.waiter = undefined
          resume(taken)
        }
        return Effect.sync(() => {
          this.inbox.waiter = undefined
        })
      })
  )

  /** Sends a command in one of the two protocols; `next` brings the answer. */
  send(sql: string, encode: (sql: string) => Uint8Array): Effect.Effect<void, PgError> {
    return Effect.suspend(() => {
      if (sql.includes("\0")) return Effect.fail(new PgError({ message: "NUL in the text of a query" }))
      if (this.failure !== undefined) return Effect.fail(this.failure)
      if (this.busy) return Effect.fail(new PgError({ message: "the session has not finished its last query" }))
      this.busy = true
      this.socket.write(encode(sql))
      return Effect.void
    })
  }

  /** Ends an idle session politely, any other one at once. */
  readonly close = Effect.sync(() => {
    if (!this.busy && this.failure === undefined) this.socket.write(PgProtocol.encodeTerminate())
    this.drop()
  })

  drop(): void {
    this.fail(new PgError({ message: `the session with ${address(this.target)} was closed` }))
    this.socket.destroy()
  }

  /** False pauses the socket. */
  private readonly onRead = (length: number): boolean => {
    this.guard(() => this.inbox.accept(length))
    return !this.inbox.isFull
  }

  private take(): Effect.Effect<Batch, PgError> | undefined {
    const { inbox, socket } = this
    const wasFull = inbox.isFull
    const batch = this.guard(() => inbox.take())
    if (wasFull && !inbox.isFull) socket.resume()
    if (batch !== undefined) return Effect.succeed(batch)
    return this.failure === undefined ? undefined : Effect.fail(this.failure)
  }

  private guard<A>(read: () => A): A | undefined {
    try {
      return read()
    } catch (cause) {
      this.fail(new PgError({ message: `${address(this.target)} does not speak the PostgreSQL protocol`, cause }))
      this.socket.destroy()
      return undefined
    }
  }

  private fail(failure: PgError): void {
    this.failure ??= failure
    this.inbox.waiter?.()
  }
}

const startup = ({ target, parameters = {} }: ConnectOptions): Effect.Effect<Uint8Array, PgError> => {
  const all: PgProtocol.StartupParameters = {
    client_encoding: "UTF8",
    user: target.user,
    database: target.database,
    ...(parameters.options === undefined ? { options: target.options } : {}),
    ...parameters
  }
  return Object.values(all).some((value) => value?.includes("\0"))
    ? Effect.fail(new PgError({ message: "NUL in a start-up parameter" }))
    : Effect.sync(() => PgProtocol.encodeStartupMessage(all))
}

const unsupported = (what: string): PgError => new PgError({ message: `the server asks for ${what}` })
const adaptAuth = (cause: PgAuth.AuthError): PgError => new PgError({ message: cause.message, cause })

/** From the start-up message to the first ReadyForQuery. */
const handshake = Effect.fnUntraced(function* (connection: Connection, options: ConnectOptions) {
  const { socket, target } = connection
  const given = options.password === undefined ? target.password : Redacted.value(options.password)
  const password =
    given === undefined
      ? Effect.fail(unsupported("a password, and there is none"))
      : given.includes("\0")
        ? Effect.fail(new PgError({ message: "NUL in the password" }))
        : Effect.succeed(given)
  let scram: PgAuth.ScramState | undefined
  socket.write(yield* startup(options))
  while (true) {
    for (const message of (yield* connection.next).messages) {
      switch (message._tag) {
        case "AuthenticationCleartextPassword":
          socket.write(PgProtocol.encodePasswordMessage({ password: yield* password }))
          break
        case "AuthenticationMD5Password": {
          const hash = PgAuth.md5Password({ user: target.user, password: yield* password, salt: message.salt })
          socket.write(
            PgProtocol.encodePasswordMessage({ password: yield* Effect.mapError(Effect.fromResult(hash), adaptAuth) })
          )
          break
        }
        case "AuthenticationSASL": {
          if (!message.mechanisms.includes(PgAuth.SCRAM_SHA_256)) {
            return yield* unsupported(message.mechanisms.join(", "))
          }
          const first = PgAuth.scramInit({ password: yield* password, nonce: randomBytes(18).toString("base64") })
          const { response, state } = yield* Effect.mapError(Effect.fromResult(first), adaptAuth)
          scram = state
          socket.write(
            PgProtocol.encodeSASLInitialResponse({ mechanism: PgAuth.SCRAM_SHA_256, initialResponse: response })
          )
          break
        }
        case "AuthenticationSASLContinue": {
          if (scram?._tag !== "ScramFirst") return yield* unsupported("SCRAM out of order")
          const final = PgAuth.scramContinue(scram, message.data)
          const { response, state } = yield* Effect.mapError(Effect.fromResult(final), adaptAuth)
          scram = state
          socket.write(PgProtocol.encodeSASLResponse({ data: response }))
          break
        }
        case "AuthenticationSASLFinal":
          if (scram?._tag !== "ScramFinal") return yield* unsupported("SCRAM out of order")
          yield* Effect.mapError(Effect.fromResult(PgAuth.scramFinish(scram, message.data)), adaptAuth)
          scram = undefined
          break
        case "AuthenticationOk":
          if (scram !== undefined) {
            return yield* new PgError({ message: "the server did not prove that it knows the password" })
          }
          break
        case "AuthenticationUnsupported":
          return yield* unsupported(`authentication method ${message.method}`)
        case "ErrorResponse":
          return yield* refused(message.fields)
        case "ReadyForQuery":
          connection.busy = false
          return
      }
    }
  }
})

const query = Effect.fnUntraced(function* (connection: Connection, sql: string) {
  yield* connection.send(sql, simpleQuery)
  const sets: Array<ResultSet> = []
  let columns: ReadonlyArray<string> = []
  let rows: Array<ReadonlyArray<string | null>> = []
  let error: PgError | undefined
  while (true) {
    // A server that goes away tells why before it closes.
    const batch = yield* Effect.mapError(connection.next, (broken) => error ?? broken)
    for (const message of batch.messages) {
      switch (message._tag) {
        case "RowDescription":
          columns = message.fields.map((field) => field.name)
          break
        case "DataRow":
          rows.push(message.values.map(text))
          break
        case "CommandComplete":
          sets.push({ tag: message.commandTag, columns, rows })
          columns = []
          rows = []
          break
        case "CopyInResponse":
          connection.socket.write(frame("f", Buffer.from("no data to copy\0")))
          break
        case "ErrorResponse":
          error ??= refused(message.fields)
          break
        case "ReadyForQuery":
          connection.busy = false
          return error === undefined ? sets : yield* error
      }
    }
  }
})

const copyOut = Effect.fnUntraced(function* (connection: Connection, sql: string) {
  let started = false
  let done = false
  let complete = false
  let pending: Uint8Array | undefined

  /** Takes one batch in; an error of the server comes before anything else that is in it. */
  const advance = Effect.gen(function* () {
    const { messages, payload } = yield* connection.next
    for (const message of messages) {
      switch (message._tag) {
        case "CopyOutResponse":
          started = true
          break
        case "CopyDone":
          done = true
          break
        case "CommandComplete":
          complete = true
          break
        case "ErrorResponse":
          return yield* refused(message.fields)
        case "ReadyForQuery":
          connection.busy = false
          break
      }
    }
    pending = payload
  })

  const next = Effect.gen(function* () {
    while (pending === undefined && connection.busy) yield* advance
    const payload = pending
    pending = undefined
    if (payload === undefined && !(done && complete)) {
      return yield* new PgError({ message: "the server ended the COPY without completing it" })
    }
    return payload
  }).pipe(Effect.tapError(() => Effect.sync(() => connection.drop())))

  const begin = Effect.gen(function* () {
    yield* connection.send(sql, extendedQuery)
    while (!started && connection.busy) yield* advance
    if (!started) return yield* new PgError({ message: "the server does not answer this command with a COPY" })
    return { next } satisfies CopyOut
  })
  return yield* Effect.onError(begin, () => Effect.sync(() => connection.drop()))
})

/** Opens a session; the Scope closes it. */
export const connect = (options: ConnectOptions): Effect.Effect<Session, PgError, Scope.Scope> =>
  Effect.gen(function* () {
    const connection = yield* Effect.acquireRelease(
      Effect.try({
        try: () => new Connection(options),
        catch: (cause) => new PgError({ message: `cannot connect to ${address(options.target)}`, cause })
      }),
      ({ close }) => close
    )
    const connectTimeout = options.connectTimeout ?? defaultConnectTimeout
    yield* handshake(connection, options).pipe(
      Effect.timeoutOrElse({
        duration: connectTimeout,
        orElse: () =>
          Effect.fail(
            new PgError({
              message: `${address(options.target)} was not ready within ${Duration.format(Duration.fromInputUnsafe(connectTimeout))}`
            })
          )
      }),
      Effect.onError(() => Effect.sync(() => connection.drop()))
    )
    return {
      query: (sql) => Effect.onInterrupt(query(connection, sql), () => Effect.sync(() => connection.drop())),
      copyOut: (sql) => copyOut(connection, sql)
    }
  })
