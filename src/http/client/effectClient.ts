/** The client for Effect programs. Browser safe. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type * as Redacted from "effect/Redacted"
import type { ComputeStatus } from "../../domain/ComputeStatus.ts"
import { ExternalApi } from "../api/ExternalApi.ts"
import { InternalApi } from "../api/InternalApi.ts"
import { type Connection, caller, type Received } from "./call.ts"
import type { ComputeStatusResponse } from "./documents.ts"
import type { StatusUnattainable, Unreachable, WaitTimeout } from "./errors.ts"
import { type EffectMethods, effectMethods, type Route } from "./surface.ts"
import { type WaitOptions, waitFor } from "./waitFor.ts"

export interface ClientOptions {
  /** Of the external server, as `http://127.0.0.1:3080`. */
  readonly url: string
  /** Of the internal server, as `http://127.0.0.1:3081`. Without it the methods of `internal` fail. */
  readonly internalUrl?: string
  /** For the external server; metrics and health need none. */
  readonly token?: string | Redacted.Redacted<string>
  /** For one try of a question; 30 seconds without it. What changes something answers when it is done, however long. */
  readonly timeout?: Duration.Input
  /** How often a call that may be repeated is, when there was no answer or a 503; 3 without it. */
  readonly retries?: number
}

type Groups<Api extends { readonly groups: object }> = Api["groups"][keyof Api["groups"]]
export type ExternalGroups = Groups<typeof ExternalApi>
export type InternalGroups = Groups<typeof InternalApi>

type External = EffectMethods<ExternalGroups>

/** What asking for the status may fail with. */
type StatusFailure = External["status"] extends () => Effect.Effect<infer _A, infer E> ? E : never

export interface Client extends External {
  /** Routes of the internal server. */
  readonly internal: EffectMethods<InternalGroups>
  /** Waits until the node has this status; fails as soon as it cannot get there any more. */
  readonly waitFor: (
    status: ComputeStatus,
    options?: WaitOptions
  ) => Effect.Effect<ComputeStatusResponse, StatusFailure | StatusUnattainable | Unreachable | WaitTimeout>
}

const defaults = { timeout: Duration.seconds(30), retries: 3 }

/** How each of the two servers is reached. */
export const connections = (
  options: ClientOptions
): { readonly external: Connection; readonly internal: Connection } => {
  const { timeout = defaults.timeout, retries = defaults.retries } = options
  return {
    external: { url: options.url, token: options.token, timeout, retries },
    internal: { url: options.internalUrl, token: undefined, timeout, retries }
  }
}

const methodOf = (http: HttpClient.HttpClient, connection: Connection) => {
  const call = caller(http, connection)
  return (route: Route) => (input: unknown) =>
    Effect.map(call(route)(input), (received: Received) => ("bytes" in received ? received.bytes : received.document))
}

/** A client over this `HttpClient`. Nothing is opened, so there is nothing to close. */
export const over = (http: HttpClient.HttpClient, options: ClientOptions): Client => {
  const { external, internal } = connections(options)
  // Waiting asks again anyway, and wants to know at once.
  const { status } = effectMethods(ExternalApi, methodOf(http, { ...external, retries: 0 }))
  return {
    ...effectMethods(ExternalApi, methodOf(http, external)),
    internal: effectMethods(InternalApi, methodOf(http, internal)),
    waitFor: waitFor(status(), options.url)
  }
}

/** A client over the `HttpClient` of the caller, as that of `effect/http/FetchHttpClient`. */
export const make = (options: ClientOptions): Effect.Effect<Client, never, HttpClient.HttpClient> =>
  Effect.map(HttpClient.HttpClient, (http) => over(http, options))
