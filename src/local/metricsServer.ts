/** The HTTP port of an emulated pageserver: `GET /metrics`. */
import * as http from "node:http"
import * as Listener from "./listener.ts"

/** Listens until the Scope ends. `render` gives Prometheus text. */
export const make = (options: {
  /** For error texts. */
  readonly name: string
  /** A free one when left out. */
  readonly port: number | undefined
  readonly render: () => string
}) => {
  const answer = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    request.resume()
    if (request.url?.split("?")[0] !== "/metrics") {
      response.writeHead(404).end("there is /metrics\n")
    } else if (request.method !== "GET" && request.method !== "HEAD") {
      response.writeHead(405, { allow: "GET, HEAD" }).end()
    } else {
      response.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" }).end(options.render())
    }
  }
  return Listener.make({ name: options.name, port: options.port, create: () => http.createServer(answer) })
}
