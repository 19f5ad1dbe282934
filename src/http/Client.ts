/**
 * Typed client of the external server, for control planes and for browsers: no Node module is reached from here.
 *
 * The `HttpClient` is the caller's (`FetchHttpClient.layer` in browsers). Declared errors come back as the classes of
 * `api/Errors.ts`.
 */
import type * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import type * as Redacted from "effect/Redacted"
import { ExternalApi } from "./api/ExternalApi.ts"

export interface ClientOptions {
  /** Of the external server, as `http://127.0.0.1:3080`. */
  readonly url: string
  /** Token for the `Authorization` header; the metrics need none. */
  readonly token?: Redacted.Redacted<string>
}

export type Client = HttpApiClient.ForApi<typeof ExternalApi>

export const make = ({ token, url }: ClientOptions): Effect.Effect<Client, never, HttpClient.HttpClient> =>
  HttpApiClient.make(ExternalApi, {
    baseUrl: url,
    transformClient: (client) =>
      token === undefined ? client : HttpClient.mapRequest(client, HttpClientRequest.bearerToken(token))
  })
