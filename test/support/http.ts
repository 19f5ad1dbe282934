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

/** A request as it goes out: nothing is added but the length of the body. */
export interface PlainCall {
  readonly headers?: Http.OutgoingHttpHeaders | undefined
  readonly body?: string | Buffer | undefined
  readonly agent?: Http.Agent | undefined
  readonly host?: string | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * @param what method and path: `GET /status`
 *
 * Rejects where there is no whole answer; aborting closes the connection.
 */
export const sendPlain = (port: number, what: string, call: PlainCall): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const [method, path] = what.split(" ", 2)
    const request = Http.request(
      {
        host: call.host ?? "127.0.0.1",
        port,
        method,
        path,
        headers: {
          ...(call.body === undefined ? {} : { "content-length": Buffer.byteLength(call.body) }),
          ...call.headers
        },
        agent: call.agent ?? false,
        ...(call.signal === undefined ? {} : { signal: call.signal })
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
    request.end(call.body)
  })

/** As `sendPlain`, for JSON. */
export const send = (port: number, what: string, call: Call, signal: AbortSignal): Promise<Reply> => {
  const body = bodyText(call.body)
  const type = body === undefined ? {} : { "content-type": "application/json" }
  return sendPlain(port, what, { body, headers: { ...type, ...call.headers }, agent: call.agent, signal })
}

/** As `send`; interrupting closes the connection. No answer is a failure with the system's error. */
export const request = (port: number, what: string, call: Call = {}): Effect.Effect<Reply, Error> =>
  Effect.tryPromise({
    try: (signal) => send(port, what, call, signal),
    catch: (cause) => (cause instanceof Error ? cause : new Error(String(cause)))
  })
