/** One GET with Node's own client. Proxy variables of the environment are honoured. Loaded only where it is used. */

import { STATUS_CODES } from "node:http"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"

export class RequestFailed extends Data.TaggedError("RequestFailed")<{
  readonly message: string
  readonly cause?: unknown
}> {}

export interface Answer {
  readonly status: number
  /** Reason phrase of the status, as metric labels show it. */
  readonly reason: string
  readonly text: string
}

/** Status, reason and body. The deadline covers headers and body. */
export const getText = (options: {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly timeout: Duration.Input
  readonly environment: Readonly<Record<string, string | undefined>>
}): Effect.Effect<Answer, RequestFailed> =>
  HttpClient.get(options.url, { headers: options.headers }).pipe(
    Effect.flatMap((response) =>
      Effect.map(response.text, (text) => ({
        status: response.status,
        reason: STATUS_CODES[response.status] ?? "",
        text
      }))
    ),
    Effect.mapError((cause) => new RequestFailed({ message: "no answer", cause })),
    Effect.timeoutOrElse({
      duration: options.timeout,
      orElse: () => Effect.fail(new RequestFailed({ message: "no answer in time" }))
    }),
    Effect.provideService(HttpClient.TracerPropagationEnabled, true),
    Effect.provide(NodeHttpClient.layerNodeHttpOptions({ proxyEnv: options.environment }))
  )
