/** A port that can be closed and opened again, with a fiber for each conversation. */
import type { Server, Socket } from "node:net"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Scope from "effect/Scope"

/** The port cannot be opened. */
export class ListenFailed extends Data.TaggedError("ListenFailed")<{
  readonly server: string
  readonly message: string
  readonly cause?: unknown
}> {}

export interface Listener {
  readonly host: string
  readonly port: number
  /** `host:port` */
  readonly address: string
  /** Closes the port and all connections; later connects are refused. */
  readonly stop: Effect.Effect<void>
  /** Opens the same port again. */
  readonly start: Effect.Effect<void, ListenFailed>
}

/** Runs a conversation in a fiber that ends with the listener. */
export type Fork = (conversation: Effect.Effect<void>) => void

const host = "127.0.0.1"

/** The port that was opened. */
const bind = (name: string, server: Server, port: number): Effect.Effect<number, ListenFailed> =>
  Effect.callback((resume) => {
    const failed = (cause: Error): void => {
      const message = `the ${name} cannot listen on ${host}:${port}: ${cause.message}`
      resume(Effect.fail(new ListenFailed({ server: name, message, cause })))
    }
    server.once("error", failed)
    server.listen(port, host, () => {
      server.off("error", failed)
      const address = server.address()
      resume(Effect.succeed(address !== null && typeof address === "object" ? address.port : port))
    })
  })

const close = (server: Server, sockets: ReadonlySet<Socket>): Effect.Effect<void> =>
  Effect.callback((resume) => {
    server.close(() => resume(Effect.void))
    for (const socket of sockets) socket.destroy()
  })

/** Listens on the loopback until the Scope ends. `create` makes a Node server that gives its conversations to the fork. */
export const make = Effect.fnUntraced(function* (options: {
  /** For error texts. */
  readonly name: string
  /** A free one when left out. */
  readonly port: number | undefined
  readonly create: (fork: Fork) => Server
}) {
  const parent = yield* Effect.scope
  let port = options.port ?? 0
  let open: Scope.Closeable | undefined

  const listen = Effect.gen(function* () {
    const run = yield* FiberSet.makeRuntime<never>()
    const sockets = new Set<Socket>()
    const server = options.create((conversation) => void run(conversation))
    server.on("connection", (socket: Socket) => {
      sockets.add(socket)
      socket.once("close", () => sockets.delete(socket))
    })
    port = yield* Effect.acquireRelease(bind(options.name, server, port), () => close(server, sockets))
  })

  const start = Effect.suspend(() => {
    if (open !== undefined) return Effect.void
    const scope = Scope.forkUnsafe(parent)
    open = scope
    return listen.pipe(
      Scope.provide(scope),
      Effect.onError(() => stop)
    )
  })
  const stop = Effect.suspend(() => {
    const scope = open
    open = undefined
    return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
  })

  yield* start
  const listener: Listener = { host, port, address: `${host}:${port}`, start, stop }
  return listener
})
