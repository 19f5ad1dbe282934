/** HTTP as it is on the wire: one connection a request, nothing decoded but JSON. */
import * as Http from "node:http"
import * as Effect from "effect/Effect"
import { record } from "./exchanges.ts"

export interface Reply {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly text: string
  /** Undefined where the body is no JSON. */
  readonly json: unknown
}

export interface Call {
  readonly headers?: Http.OutgoingHttpHeaders
  /** Sent as JSON, unless it is a text. */
  readonly body?: unknown
  readonly agent?: Http.Agent
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const bodyText = (body: unknown): string | undefined =>
  body === undefined || typeof body === "string" ? body : JSON.stringify(body)

/**
 * @param what method and path: `GET /status`
 *
 * Rejects where there is no whole answer; aborting closes the connection.
 */
export const send = (port: number, what: string, call: Call, signal: AbortSignal): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const [method, path] = what.split(" ", 2)
    const body = bodyText(call.body)
    const headers =
      body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) }
    const request = Http.request(
      {
        host: "127.0.0.1",
        port,
        method,
        path,
        headers: { ...headers, ...call.headers },
        agent: call.agent ?? false,
        signal
      },
      (response) => {
        const chunks: Array<Buffer> = []
        response.on("data", (chunk: Buffer) => chunks.push(chunk))
        response.on("error", reject)
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString()
          const reply = { status: response.statusCode ?? 0, headers: response.headers, text, json: parsed(text) }
          record(port, what, reply)
          resolve(reply)
        })
      }
    )
    request.on("error", reject)
    request.end(body)
  })

/** As `send`; interrupting closes the connection. No answer is a failure with the system's error. */
export const request = (port: number, what: string, call: Call = {}): Effect.Effect<Reply, Error> =>
  Effect.tryPromise({
    try: (signal) => send(port, what, call, signal),
    catch: (cause) => (cause instanceof Error ? cause : new Error(String(cause)))
  })
