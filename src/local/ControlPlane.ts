/**
 * The emulated control plane: the spec of each compute over HTTP, and `push`, which sends it to a running one.
 *
 * Source: reference/storage-protocols §4.1, §4.3, §8.6.
 */
import * as http from "node:http"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import type { ComputeConfig, Jwk } from "../domain/ComputeConfig.ts"
import { type FaultBook, type HttpFault, makeFaultBook, noise } from "./Faults.ts"
import { type Journal, makeRecorder } from "./Journal.ts"
import * as Listener from "./listener.ts"

/** `{ spec, compute_ctl_config }` as it stands on the wire. */
export type Document = typeof ComputeConfig.Encoded

/** One request. Times are milliseconds. */
export interface HttpRecord {
  readonly method: string
  readonly path: string
  readonly headers: http.IncomingHttpHeaders
  readonly startedAt: number
  /** 0 until answered, and for ever where the connection was broken. */
  status: number
  millis: number | undefined
}

/** A compute could not be reached. */
export class PushFailed extends Data.TaggedError("PushFailed")<{
  readonly url: string
  readonly message: string
  readonly cause?: unknown
}> {}

export interface PushAnswer {
  readonly status: number
  readonly body: string
}

export interface ControlPlane extends Listener.Listener {
  /** For `--control-plane-uri`. */
  readonly url: string
  /** What computes must send as bearer token (`NEON_CONTROL_PLANE_TOKEN`). */
  readonly token: Redacted.Redacted<string>
  readonly requests: Journal<HttpRecord>
  readonly faults: FaultBook<HttpFault>
  /** Serves a document; replaces the one before. */
  readonly attach: (computeId: string, document: Document) => void
  /** Serves status `empty`, no spec, and these keys. */
  readonly empty: (computeId: string, keys: ReadonlyArray<Jwk>) => void
  /** Afterwards the id is unknown: 404. */
  readonly remove: (computeId: string) => void
  /** Serves exactly this. */
  readonly answer: (computeId: string, status: number, body: string) => void
  /** The document that is served; undefined unless one is attached. */
  readonly document: (computeId: string) => Document | undefined
  /** Attaches a document, if one is given, and sends what is attached to the compute's `POST /configure`. */
  readonly push: (options: {
    readonly computeId: string
    /** External HTTP API: `http://host:port`. */
    readonly url: string
    readonly token: Redacted.Redacted<string>
    readonly document?: Document
  }) => Effect.Effect<PushAnswer, PushFailed>
}

export interface Options {
  readonly token: Redacted.Redacted<string>
  readonly port?: number
}

type Served = { readonly status: number; readonly body: string; readonly document?: Document }

const pushLimit = "120 seconds"
const specPath = /^\/compute\/api\/v2\/computes\/(.+)\/spec$/u

export const make = Effect.fnUntraced(function* (options: Options) {
  const faults = makeFaultBook<HttpFault>()
  const requests = makeRecorder<HttpRecord>()
  const computes = new Map<string, Served>()

  const respond = (record: HttpRecord): Served => {
    const found = computes.get(specPath.exec(record.path)?.[1] ?? "")
    if (found === undefined) return { status: 404, body: "" }
    if (record.method !== "GET") return { status: 405, body: "" }
    const bearer = /^Bearer (.*)$/u.exec(record.headers.authorization ?? "")?.[1]
    return bearer === Redacted.value(options.token) ? found : { status: 401, body: "" }
  }

  const serve = Effect.fnUntraced(function* (request: http.IncomingMessage, response: http.ServerResponse) {
    const startedAt = yield* Clock.currentTimeMillis
    const record: HttpRecord = {
      method: request.method ?? "",
      path: (request.url ?? "").split("?")[0] ?? "",
      headers: request.headers,
      startedAt,
      status: 0,
      millis: undefined
    }
    requests.add(record)
    const left = Deferred.makeUnsafe<void>()
    response.once("close", () => Deferred.doneUnsafe(left, Exit.void))
    request.resume()
    const write = (status: number, body: string, headers: Record<string, string>) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        record.status = status
        record.millis = now - startedAt
        response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) }).end(body)
        requests.touch()
      })
    for (const { plan, released } of faults.take("request", `${record.method} ${record.path}`)) {
      switch (plan.do) {
        case "delay":
          yield* Effect.sleep(plan.millis)
          break
        case "answer":
          return yield* write(plan.status, plan.body ?? "", plan.headers ?? {})
        case "hang":
          yield* Effect.raceFirst(Deferred.await(released), Deferred.await(left))
          return void response.socket?.destroy()
        case "garbage":
          return void response.socket?.end(noise(64))
        case "reset":
          return void response.socket?.resetAndDestroy()
        case "close":
          return void response.socket?.destroy()
      }
    }
    const { status, body } = respond(record)
    yield* write(status, body, body === "" ? {} : { "content-type": "application/json" })
  })

  const listener = yield* Listener.make({
    name: "control plane",
    port: options.port,
    create: (fork) => http.createServer((request, response) => fork(serve(request, response)))
  })

  const attach = (computeId: string, document: Document): void =>
    void computes.set(computeId, { status: 200, body: JSON.stringify({ status: "attached", ...document }), document })

  const push: ControlPlane["push"] = Effect.fnUntraced(function* ({ computeId, url, token, document }) {
    if (document !== undefined) attach(computeId, document)
    const attached = computes.get(computeId)?.document
    if (attached === undefined) {
      return yield* new PushFailed({ url, message: `no document is attached to compute ${computeId}` })
    }
    const failed = (cause: unknown) =>
      new PushFailed({ url, message: `the compute at ${url} could not be reached`, cause })
    return yield* Effect.tryPromise({
      try: async (signal) => {
        const response = await fetch(`${url}/configure`, {
          method: "POST",
          headers: { authorization: `Bearer ${Redacted.value(token)}`, "content-type": "application/json" },
          body: JSON.stringify(attached),
          signal
        })
        return { status: response.status, body: await response.text() }
      },
      catch: failed
    }).pipe(
      Effect.timeoutOrElse({
        duration: pushLimit,
        orElse: () => Effect.fail(new PushFailed({ url, message: `the compute at ${url} did not answer` }))
      })
    )
  })

  const controlPlane: ControlPlane = {
    ...listener,
    url: `http://${listener.address}`,
    token: options.token,
    requests,
    faults,
    attach,
    empty: (computeId, keys) =>
      void computes.set(computeId, {
        status: 200,
        body: JSON.stringify({ status: "empty", spec: null, compute_ctl_config: { jwks: { keys } } })
      }),
    remove: (computeId) => void computes.delete(computeId),
    answer: (computeId, status, body) => void computes.set(computeId, { status, body }),
    document: (computeId) => computes.get(computeId)?.document,
    push
  }
  return controlPlane
})
