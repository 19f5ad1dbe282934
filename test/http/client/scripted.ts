/** A server that answers what the test says, for what a real node does only by accident. */
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import type { ComputeStatus } from "../../../src/domain/ComputeStatus.ts"

export interface Scripted {
  readonly url: string
  /** Requests so far, as `GET /status`. */
  readonly seen: ReadonlyArray<string>
  readonly [Symbol.asyncDispose]: () => Promise<void>
}

type Answer = (response: Http.ServerResponse, turn: number, request: Http.IncomingMessage) => void

const portOf = (address: AddressInfo | string | null): number =>
  typeof address === "object" && address !== null ? address.port : 0

/** @param answer gets the number of the request, from 1 */
export const scripted = async (answer: Answer): Promise<Scripted> => {
  const seen: Array<string> = []
  const server = Http.createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`)
    answer(response, seen.length, request)
  })
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening))
  return {
    url: `http://127.0.0.1:${portOf(server.address())}`,
    seen,
    [Symbol.asyncDispose]: () => {
      server.closeAllConnections()
      return new Promise<void>((closed) => server.close(() => closed()))
    }
  }
}

/** Answers with a JSON document. */
export const json = (response: Http.ServerResponse, status: number, body: unknown): void => {
  response.writeHead(status, { "content-type": "application/json" })
  response.end(JSON.stringify(body))
}

/** A port on which nobody listens. */
export const deserted = async (): Promise<string> => {
  await using server = await scripted(() => {})
  return server.url
}

export const status = (name: ComputeStatus, error: string | null = null) => ({
  start_time: "2026-11-21T08:49:07.987Z",
  tenant: null,
  timeline: null,
  status: name,
  last_active: null,
  error
})
