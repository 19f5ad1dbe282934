/**
 * Sockets of a server: where it listens, what it says to broken clients, how it stops.
 *
 * Stopping: new connections are refused, idle ones closed at once; answers in flight have `drain` to be finished, then
 * their handlers are interrupted (503) and have a moment to say so. Nothing waits longer than that.
 */
import * as Http from "node:http"
import type { Duplex } from "node:stream"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as E from "./api/Errors.ts"
import { newRequestId } from "./requestId.ts"

const defaultRequestTimeoutMillis = 30_000
/** Longer than the pools of usual clients keep a connection, so that they close first. */
const keepAliveMillis = 75_000
/** Silence after which the system asks a peer whether it is still there: somebody who waits for an answer sends nothing. */
const probeMillis = 60_000
/** For handlers that the end of the drain has interrupted. */
const lastWords = Duration.millis(150)
/** For a client to read our last answer before the connection is torn down. */
const graceMillis = 500

/** The port is taken, or the address is not ours. `message` names the address. */
export class BindFailed extends Data.TaggedError("BindFailed")<{
  readonly server: string
  readonly address: string
  readonly message: string
  readonly cause: unknown
}> {}

/** Where a server was bound. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** What to bind. `Any`: all addresses, both families; `Loopback`: 127.0.0.1, and ::1 where the machine has it. */
export type Bind =
  | { readonly _tag: "Any" }
  | { readonly _tag: "Loopback" }
  | { readonly _tag: "Host"; readonly host: string }

export type Handler = (request: Http.IncomingMessage, response: Http.ServerResponse) => void

export const formatAddress = ({ host, port }: Address): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`

const codeOf = (cause: unknown): string | undefined =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : undefined

/** The machine has no such address family or address. */
const isAbsent = (error: BindFailed): boolean =>
  ["EAFNOSUPPORT", "EADDRNOTAVAIL", "EINVAL"].includes(codeOf(error.cause) ?? "")

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: "address already in use",
  EACCES: "permission denied",
  EADDRNOTAVAIL: "cannot assign requested address",
  ENOTFOUND: "unknown host name"
}

const bindFailed = (server: string, address: Address, cause: unknown): BindFailed => {
  const code = codeOf(cause)
  const text = (code === undefined ? undefined : reasons[code]) ?? (cause instanceof Error ? cause.message : "unknown")
  return new BindFailed({
    server,
    address: formatAddress(address),
    message: `failed to bind the compute_ctl ${server} HTTP server to ${formatAddress(address)}: ${text}`,
    cause
  })
}

/** Without a host: all addresses of both families, or of IPv4 where the machine has no IPv6. */
const listenOn = (
  server: Http.Server,
  name: string,
  port: number,
  host: string | undefined
): Effect.Effect<Address, BindFailed> =>
  Effect.callback((resume) => {
    const address = { host: host ?? "::", port }
    const onError = (cause: Error): void => resume(Effect.fail(bindFailed(name, address, cause)))
    server.once("error", onError)
    server.listen(host === undefined ? { port } : address, () => {
      server.off("error", onError)
      const bound = server.address()
      resume(
        Effect.succeed(
          typeof bound === "object" && bound !== null ? { host: bound.address, port: bound.port } : address
        )
      )
    })
  })

/** Answer to bytes that never became a request. */
const refusal = (code: string | undefined): readonly [status: number, error: string] => {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return [431, "request header fields too large"]
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return [E.PayloadTooLarge.status, "chunk extensions too large"]
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return [408, "request timed out"]
    default:
      return [E.BadRequest.status, "malformed request"]
  }
}

const rawResponse = (status: number, error: string): string => {
  const body = JSON.stringify({ error })
  return [
    `HTTP/1.1 ${status} ${Http.STATUS_CODES[status]}`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
    `x-request-id: ${newRequestId()}`,
    "connection: close",
    "",
    body
  ].join("\r\n")
}

const closing = new WeakSet<Duplex>()

/** Hands over what is written, then lets go of the connection, whatever the peer does. */
export const closeSoon = (socket: Duplex): void => {
  if (closing.has(socket)) return
  closing.add(socket)
  socket.end()
  const timer = setTimeout(() => socket.destroy(), graceMillis)
  socket.once("close", () => clearTimeout(timer))
}

/** The connections of all listeners of one server, with the answers that are on their way. */
const connections = () => {
  // Lists: what a set has held keeps living with its older tables, if the collector has taken one for old.
  const open = new Map<Duplex, Array<Http.ServerResponse>>()
  let draining = false
  let onEmpty = (): void => {}

  const refuse = (socket: Duplex, status: number, error: string): void => {
    if (closing.has(socket)) return // what else it sends is not looked at
    const answered = open.get(socket)?.some((response) => response.headersSent)
    if (answered === true || !socket.writable) socket.destroy()
    else {
      socket.write(rawResponse(status, error))
      closeSoon(socket)
    }
  }

  /** A connection is left after this answer. */
  const announceClose = (response: Http.ServerResponse): void => {
    if (!response.headersSent) response.setHeader("connection", "close")
  }

  const attach = (server: Http.Server, handler: Handler): void => {
    server.on("connection", (socket) => {
      open.set(socket, [])
      socket.once("close", () => {
        open.delete(socket)
        if (open.size === 0) onEmpty()
      })
    })
    const onRequest: Handler = (request, response) => {
      const answers = open.get(request.socket)
      answers?.push(response)
      response.once("close", () => {
        answers?.splice(answers.indexOf(response), 1)
        if (draining && answers?.length === 0) closeSoon(request.socket)
      })
      if (draining) announceClose(response)
      handler(request, response)
    }
    server.on("request", onRequest)
    server.on("checkExpectation", onRequest) // `Expect` with something unknown: not our business
    server.on("connect", (_request, socket) => refuse(socket, E.NotFound.status, "not found"))
    server.on("clientError", (error, socket) => {
      const code = codeOf(error)
      if (code === "ECONNRESET") socket.destroy()
      else refuse(socket, ...refusal(code))
    })
  }

  /** Ends when no connection is left. */
  const empty = Effect.callback<void>((resume) => {
    onEmpty = () => resume(Effect.void)
    if (open.size === 0) onEmpty()
  })

  const startDraining = Effect.sync(() => {
    draining = true
    for (const [socket, answers] of open) {
      if (answers.length === 0) socket.destroy()
      else for (const response of answers) announceClose(response)
    }
  })

  const destroyAll = Effect.sync(() => {
    for (const socket of open.keys()) socket.destroy()
  })

  return { attach, empty, startDraining, destroyAll }
}

/** Lets requests that have come meanwhile be answered first. */
export const nextTurn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

export interface ListenOptions {
  /** For logs and errors: `external`, `internal`. */
  readonly name: string
  readonly bind: Bind
  /** 0: any free port, the same one for all addresses. */
  readonly port: number
  /** How long answers in flight may take when the server stops. */
  readonly drain: Duration.Input
  /** How long a client may take to send a whole request, 30 s by default; at most a tenth more. */
  readonly requestTimeoutMillis?: number
  /** Makes the handler; its fibers belong to the scope it gets. */
  readonly handler: (requests: Scope.Scope) => Effect.Effect<Handler>
}

/** Listens until the scope closes. Fails with the first address that can not be bound; nothing stays bound then. */
export const listen = (options: ListenOptions): Effect.Effect<ReadonlyArray<Address>, BindFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const requests = yield* Scope.make("parallel")
    const handler = yield* options.handler(requests)
    const all = connections()
    const servers: Array<Http.Server> = []

    yield* Effect.addFinalizer(() =>
      Effect.gen(function* () {
        for (const server of servers) server.close()
        yield* all.startDraining
        yield* Effect.timeoutOption(all.empty, options.drain)
        // Not waited for: a handler that can not be interrupted dies with the process.
        yield* Effect.forkDetach(Scope.close(requests, Exit.void), { startImmediately: true })
        yield* Effect.timeoutOption(all.empty, lastWords)
        yield* all.destroyAll
      })
    )

    const requestTimeout = options.requestTimeoutMillis ?? defaultRequestTimeoutMillis
    const open = (port: number, host?: string) => {
      const server = Http.createServer({
        requestTimeout,
        headersTimeout: requestTimeout,
        connectionsCheckingInterval: requestTimeout / 10,
        keepAliveTimeout: keepAliveMillis,
        keepAlive: true,
        keepAliveInitialDelay: probeMillis,
        requireHostHeader: false
      })
      all.attach(server, handler)
      servers.push(server)
      return listenOn(server, options.name, port, host)
    }

    switch (options.bind._tag) {
      case "Host":
        return [yield* open(options.port, options.bind.host)]
      case "Any":
        return [yield* open(options.port)]
      case "Loopback": {
        const v4 = yield* open(options.port, "127.0.0.1")
        yield* nextTurn // Node compiles its pattern for IPv6 addresses now, 4 ms
        const v6 = yield* open(v4.port, "::1").pipe(
          Effect.map((address) => [address]),
          Effect.catchIf(isAbsent, () => Effect.succeed([]))
        )
        return [v4, ...v6]
      }
    }
  })
