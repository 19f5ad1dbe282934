/** Whether the ports of the compute of local mode are free, before it starts: each message names the option to change. */
import { createServer, type Server } from "node:net"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { LocalParams } from "../domain/LocalParams.ts"
import { errorCode } from "../layers/DataDirectory.ts"
import { postmasterOf } from "../layers/processes.ts"

class PortUnusable extends Data.TaggedError("PortUnusable")<{ readonly message: string }> {}

const host = "127.0.0.1"

const reasonOf = (cause: Error): string => {
  switch (errorCode(cause)) {
    case "EADDRINUSE":
      return "is in use"
    case "EACCES":
      return "may not be opened by this user"
    default:
      return `cannot be opened (${cause.message})`
  }
}

const probe = (option: string, port: number): Effect.Effect<Server, PortUnusable> =>
  Effect.callback((resume) => {
    const server = createServer()
    server.once("error", (cause) => {
      const message = `port ${port} of ${host} ${reasonOf(cause)}: choose another one with --${option}`
      resume(Effect.fail(new PortUnusable({ message })))
    })
    server.listen({ host, port, exclusive: true }, () => resume(Effect.succeed(server)))
  })

const release = (server: Server): Effect.Effect<void> =>
  Effect.callback((resume) => void server.close(() => resume(Effect.void)))

/** Fails with the first port that cannot be opened. A Postgres that a killed run has left in PGDATA is stopped later. */
export const check = Effect.fnUntraced(function* (params: LocalParams, pgdata: string) {
  const left = yield* Effect.promise(() => postmasterOf(pgdata))
  const ports = [
    ...(left === undefined ? [["port", params.port] as const] : []),
    ["http-port", params.externalHttpPort] as const,
    ["internal-http-port", params.internalHttpPort] as const
  ]
  yield* Effect.forEach(ports, ([option, port]) => Effect.acquireRelease(probe(option, port), release), {
    discard: true
  })
}, Effect.scoped)
