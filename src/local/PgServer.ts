/**
 * The small server of the Postgres protocol that pageservers and safekeepers share.
 *
 * One remembered statement, no TLS, no BackendKeyData, no skipping to Sync after an error. Idle connections are closed
 * after 10 minutes. Everything seen is recorded, and faults can be planned.
 * Source: reference/storage-protocols §0.3, §9 (1–8).
 */
import { createServer, type Socket } from "node:net"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Backend from "./backendMessages.ts"
import { type FaultBook, makeFaultBook, type PgFault } from "./Faults.ts"
import { applyFault, sendPayload } from "./faultyCopy.ts"
import { type Journal, makeRecorder } from "./Journal.ts"
import * as Listener from "./listener.ts"
import { type Connection, type Dropped, open } from "./PgConnection.ts"
import * as Handshake from "./pgHandshake.ts"
import { type Protocol, QueryError, shown } from "./QueryError.ts"
import type { Authentication, Claims } from "./StorageAuth.ts"

/** One connection as the server has seen it. Times are milliseconds since the Unix epoch. */
export interface SessionRecord {
  readonly number: number
  readonly startedAt: number
  /** Start-up parameters: `user`, `database`, `options`, `application_name`, … */
  parameters: Readonly<Record<string, string>>
  password: string | undefined
  /** `open`, `closed`, or why it was dropped. */
  outcome: string
  endedAt: number | undefined
}

/** One command as the server has seen it. */
export interface CommandRecord {
  readonly session: SessionRecord
  readonly text: string
  readonly protocol: Protocol
  readonly startedAt: number
  /** Bytes of COPY data that were sent. */
  payloadBytes: number
  /** `running`, `ok`, `error: …`, or `dropped: …` with the reason. */
  outcome: string
  millis: number | undefined
}

/** A command to answer. The answer ends with a CommandComplete; ReadyForQuery is not its business. */
export interface Exchange {
  readonly text: string
  readonly session: SessionRecord
  /** What the client's token says; undefined where nobody is asked for one. */
  readonly claims: Claims | undefined
  readonly send: (...parts: ReadonlyArray<Uint8Array>) => Effect.Effect<void, Dropped>
  /** A whole COPY OUT of these bytes, from CopyOutResponse to CommandComplete. Fails where the source fails. */
  readonly copyOut: (source: AsyncIterable<Uint8Array>, tag: string) => Effect.Effect<void, Dropped | QueryError>
  /** COPY BOTH: answers each CopyData by one, until the client leaves or an answer fails. */
  readonly copyBoth: (
    answer: (payload: Buffer) => Effect.Effect<Uint8Array, QueryError>
  ) => Effect.Effect<never, Dropped | QueryError>
}

export interface Options {
  /** For error texts. */
  readonly name: string
  /** A free one when left out. */
  readonly port?: number
  readonly authentication: Authentication
  readonly run: (exchange: Exchange) => Effect.Effect<void, QueryError | Dropped>
}

export interface PgServer extends Listener.Listener {
  readonly faults: FaultBook<PgFault>
  readonly sessions: Journal<SessionRecord>
  readonly commands: Journal<CommandRecord>
}

const idleLimit = "10 minutes"

const nextMessage = ({ message }: Connection) =>
  message.pipe(Effect.timeoutOrElse({ duration: idleLimit, orElse: () => Handshake.drop("idle for 10 minutes") }))

/** Makes a server that listens until the Scope ends. `run` answers its commands. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const faults = makeFaultBook<PgFault>()
  const sessions = makeRecorder<SessionRecord>()
  const commands = makeRecorder<CommandRecord>()
  let number = 0

  const apply = (connection: Connection, moment: PgFault["at"], text = "") =>
    Effect.forEach(faults.take(moment, text), (planned) => applyFault(connection, planned), { discard: true })

  const exchange = (connection: Connection, command: CommandRecord, claims: Claims | undefined): Exchange => ({
    text: command.text,
    session: command.session,
    claims,
    send: connection.send,
    copyOut: (source, tag) =>
      Effect.gen(function* () {
        yield* connection.send(Backend.copyOutResponse)
        yield* sendPayload(connection, source, faults.take("payload", command.text), (bytes) => {
          command.payloadBytes += bytes
        })
        yield* apply(connection, "end", command.text)
        yield* connection.send(Backend.copyDone)
        yield* apply(connection, "tail", command.text)
        yield* connection.send(Backend.commandComplete(tag))
      }),
    copyBoth: Effect.fnUntraced(function* (answer) {
      yield* connection.send(Backend.copyBothResponse)
      while (true) {
        const { tag, body } = yield* nextMessage(connection)
        if (tag === "X") return yield* Handshake.drop("the client closed the connection")
        if (tag !== "d") {
          return yield* new QueryError({ kind: "Other", message: `unexpected message: ${tag} during COPY` })
        }
        yield* connection.send(Backend.copyData(yield* answer(body)))
      }
    })
  })

  const execute = Effect.fnUntraced(function* (
    connection: Connection,
    session: SessionRecord,
    claims: Claims | undefined,
    text: string,
    protocol: Protocol
  ) {
    const startedAt = yield* Clock.currentTimeMillis
    const command: CommandRecord = {
      session,
      text,
      protocol,
      startedAt,
      payloadBytes: 0,
      outcome: "running",
      millis: undefined
    }
    commands.add(command)
    const finish = (outcome: string) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        command.outcome = outcome
        command.millis = now - startedAt
        commands.touch()
      })
    yield* apply(connection, "command", text).pipe(
      Effect.andThen(Effect.suspend(() => options.run(exchange(connection, command, claims)))),
      Effect.andThen(finish("ok")),
      Effect.catchTag("QueryError", (error) =>
        Effect.gen(function* () {
          const answer = shown(error, protocol)
          yield* finish(`error: ${answer.text}`)
          yield* connection.send(Backend.errorResponse(answer.text, answer.sqlstate))
          if (answer.closes) return yield* Handshake.drop(answer.text)
        })
      ),
      Effect.tapError((dropped) =>
        command.outcome === "running" ? finish(`dropped: ${dropped.message}`) : Effect.void
      ),
      Effect.onInterrupt(() => finish("dropped: the server stopped"))
    )
  })

  const conversation = Effect.fnUntraced(function* (
    connection: Connection,
    session: SessionRecord,
    claims: Claims | undefined
  ) {
    const run = (text: string, protocol: Protocol) => execute(connection, session, claims, text, protocol)
    let remembered = ""
    while (true) {
      const { tag, body } = yield* nextMessage(connection)
      switch (tag) {
        case "Q":
          yield* run(Handshake.text(body), "simple")
          yield* connection.send(Backend.readyForQuery)
          break
        case "P":
          remembered = yield* Handshake.parsedCommand(body)
          yield* connection.send(Backend.parseComplete)
          break
        case "D":
          yield* Handshake.checkDescribe(body)
          yield* connection.send(Backend.noDescription)
          break
        case "B":
          yield* Handshake.checkBind(body)
          yield* connection.send(Backend.bindComplete)
          break
        case "E":
          yield* Handshake.checkExecute(body)
          yield* run(remembered, "extended")
          break
        case "C":
          yield* connection.send(Backend.closeComplete)
          break
        case "S":
          yield* connection.send(Backend.readyForQuery)
          break
        case "X":
          return
        case "d":
        case "c":
        case "f":
        case "p":
          return yield* Handshake.drop(`unexpected message type: ${tag}`)
        default:
          return yield* Handshake.drop(`unknown message tag ${JSON.stringify(tag)}`)
      }
    }
  })

  /** Faults before the first command: an error is told without a conversation around it. */
  const greet = (connection: Connection, moment: "accept" | "startup") =>
    apply(connection, moment).pipe(
      Effect.catchTag("QueryError", (error) => {
        const { text, sqlstate } = shown(error, "simple")
        return Effect.andThen(connection.send(Backend.errorResponse(text, sqlstate)), Handshake.drop("injected error"))
      })
    )

  const serve = Effect.fnUntraced(function* (socket: Socket) {
    const connection = yield* open(socket)
    const session: SessionRecord = {
      number: ++number,
      startedAt: yield* Clock.currentTimeMillis,
      parameters: {},
      password: undefined,
      outcome: "open",
      endedAt: undefined
    }
    sessions.add(session)
    const finish = (outcome: string) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        session.outcome = outcome
        session.endedAt = now
        sessions.touch()
      })
    yield* Effect.gen(function* () {
      yield* greet(connection, "accept")
      session.parameters = yield* Handshake.startup(connection)
      yield* greet(connection, "startup")
      const claims = yield* Handshake.authenticate(connection, options.authentication, (password) => {
        session.password = password
      })
      yield* conversation(connection, session, claims)
    }).pipe(
      Effect.andThen(finish("closed")),
      Effect.catchTag("Dropped", (dropped) => finish(dropped.message)),
      Effect.onInterrupt(() => finish("the server stopped"))
    )
  }, Effect.scoped)

  const listener = yield* Listener.make({
    name: options.name,
    port: options.port,
    create: (fork) => createServer({ noDelay: true }, (socket) => fork(serve(socket)))
  })
  const server: PgServer = { ...listener, faults, sessions, commands }
  return server
})
