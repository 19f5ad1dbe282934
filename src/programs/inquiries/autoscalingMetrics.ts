/**
 * Metrics of the local file cache, as the neon extension gives them: its communicator process serves HTTP on a unix
 * socket in PGDATA.
 *
 * Source: reference/http-api §7.12. Differs: deadlines; a long path is reached through its open directory, not by a link
 * in the temporary directory.
 */
import { constants } from "node:fs"
import { open } from "node:fs/promises"
import * as Http from "node:http"
import { join } from "node:path"
import { getSystemErrorMessage } from "node:util"
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"

/** Postgres is not there, is no server with the neon extension, or its service answered badly. */
export class NoMetrics extends Data.TaggedError("NoMetrics")<{ readonly message: string }> {}

export interface Answer {
  readonly status: number
  readonly contentType: string | undefined
  readonly body: Stream.Stream<Uint8Array, NoMetrics>
}

const socketName = "neon-communicator.socket"

/** Addresses of unix sockets have 107 bytes at the most. */
const longestPath = 100

/** Silence of the service, in milliseconds: before its answer, and in it. */
const silenceMillis = 10_000

const describeError = (error: Error): string =>
  "errno" in error && typeof error.errno === "number"
    ? `${capitalised(getSystemErrorMessage(error.errno))} (os error ${-error.errno})`
    : error.message

const capitalised = (text: string): string => text.slice(0, 1).toUpperCase() + text.slice(1)

const fetching = (error: unknown) =>
  new NoMetrics({
    message: `fetching metrics from Postgres metrics service: ${error instanceof Error ? describeError(error) : error}`
  })

const connecting = (error: unknown) =>
  new NoMetrics({
    message: `connecting to communicator control socket: ${error instanceof Error ? describeError(error) : error}`
  })

/** A path of the socket that fits into an address. */
const socketIn = (pgdata: string): Effect.Effect<string, NoMetrics, Scope.Scope> => {
  const path = join(pgdata, socketName)
  if (Buffer.byteLength(path) < longestPath) return Effect.succeed(path)
  return Effect.acquireRelease(
    Effect.tryPromise({ try: () => open(pgdata, constants.O_RDONLY | constants.O_DIRECTORY), catch: connecting }),
    (directory) => Effect.promise(() => directory.close())
  ).pipe(Effect.map(({ fd }) => `/proc/self/fd/${fd}/${socketName}`))
}

const send = (socketPath: string): Effect.Effect<Http.IncomingMessage, NoMetrics, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() =>
      Http.request({
        socketPath,
        path: "/autoscaling_metrics",
        headers: { host: "localhost" },
        agent: false,
        timeout: silenceMillis
      })
    ),
    (request) => Effect.sync(() => request.destroy())
  ).pipe(
    Effect.flatMap((request) =>
      Effect.callback<Http.IncomingMessage, NoMetrics>((resume) => {
        let failed = connecting
        request.once("socket", (socket) => {
          socket.once("connect", () => {
            failed = fetching
          })
        })
        request.on("timeout", () => request.destroy(new Error(`no answer within ${silenceMillis / 1000} s`)))
        request.on("error", (error) => resume(Effect.fail(failed(error))))
        request.once("response", (response) => resume(Effect.succeed(response)))
        request.end()
      })
    )
  )

/** Status, type and body of the service. The request lives in the Scope. */
export const autoscalingMetrics = Effect.fn("autoscaling_metrics")(function* (pgdata: string) {
  const response = yield* send(yield* socketIn(pgdata))
  const answer: Answer = {
    status: response.statusCode ?? 502,
    contentType: response.headers["content-type"],
    body: NodeStream.fromReadable<Uint8Array, NoMetrics>({ evaluate: () => response, onError: fetching })
  }
  return answer
})
