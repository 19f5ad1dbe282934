/** The same client for those who do not use Effect: promises, `AbortSignal`, async iterables. Browser safe. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as Stream from "effect/Stream"
import type { ComputeStatus } from "../../domain/ComputeStatus.ts"
import { ExternalApi } from "../api/ExternalApi.ts"
import { InternalApi } from "../api/InternalApi.ts"
import { type Connection, caller } from "./call.ts"
import type { ComputeStatusResponse } from "./documents.ts"
import { type ClientOptions, connections, type ExternalGroups, type InternalGroups, over } from "./effectClient.ts"
import { type Bytes, type CallOptions, type PromiseMethods, promiseMethods, type Route } from "./surface.ts"
import type { WaitOptions } from "./waitFor.ts"

export interface ConnectOptions extends ClientOptions {
  /**
   * In the place of the global one. That of Node gives up after 5 minutes without an answer: `configure` and `terminate`
   * may need longer.
   */
  readonly fetch?: typeof globalThis.fetch
}

export interface PromiseClient extends PromiseMethods<ExternalGroups> {
  /** Routes of the internal server. */
  readonly internal: PromiseMethods<InternalGroups>
  /** Waits until the node has this status; rejects as soon as it cannot get there any more. */
  readonly waitFor: (status: ComputeStatus, options?: WaitOptions & CallOptions) => Promise<ComputeStatusResponse>
}

/** Fails with the reason of the abort. */
const abortOf = (signal: AbortSignal): Effect.Effect<never, unknown> =>
  Effect.callback((resume) => {
    const abort = (): void => resume(Effect.fail<unknown>(signal.reason))
    if (signal.aborted) abort()
    else signal.addEventListener("abort", abort, { once: true })
    return Effect.sync(() => signal.removeEventListener("abort", abort))
  })

const bytesOf = (stream: Stream.Stream<Uint8Array, unknown>): Bytes => ({
  ...Stream.toAsyncIterable(stream),
  text: () => run(Stream.mkString(Stream.decodeText(stream)), undefined)
})

/** Rejects with the error itself, or with the reason of the abort. */
const run = async <A>(effect: Effect.Effect<A, unknown>, signal: AbortSignal | undefined): Promise<A> => {
  const exit = await Effect.runPromiseExit(signal === undefined ? effect : Effect.raceFirst(effect, abortOf(signal)))
  if (Exit.isSuccess(exit)) return exit.value
  throw Cause.squash(exit.cause)
}

export const connect = (options: ConnectOptions): PromiseClient => {
  const http = Effect.runSync(Effect.provide(HttpClient.HttpClient, FetchHttpClient.layer))
  const { fetch } = options
  const prepared = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> => {
    // Nobody collects its spans, and a header for them would need a preflight request of browsers.
    const quiet = Effect.provideService(effect, HttpClient.TracerDisabledWhen, () => true)
    return fetch === undefined ? quiet : Effect.provideService(quiet, FetchHttpClient.Fetch, fetch)
  }
  const method = (connection: Connection) => (route: Route) => {
    const call = caller(http, connection)(route)
    return async (input: unknown, { signal }: CallOptions = {}): Promise<unknown> => {
      const received = await run(prepared(call(input)), signal)
      if ("document" in received) return received.document
      return bytesOf(signal === undefined ? received.bytes : Stream.interruptWhen(received.bytes, abortOf(signal)))
    }
  }
  const { external, internal } = connections(options)
  const { waitFor } = over(http, options)
  return {
    ...promiseMethods(ExternalApi, method(external)),
    internal: promiseMethods(InternalApi, method(internal)),
    waitFor: (status, { signal, ...wait } = {}) => run(prepared(waitFor(status, wait)), signal)
  }
}
