/** One HTTP request over a bare socket: nothing of a client library counts in what is measured. */
import * as Net from "node:net"
import * as Effect from "effect/Effect"
import { BenchFailed, fail, within } from "./processes.ts"

export interface Answer {
  readonly status: number
  readonly body: string
  /** `performance.now()` when the last byte was read. */
  readonly at: number
}

const parse = (text: string): Answer | undefined => {
  const end = text.indexOf("\r\n\r\n")
  const status = Number(/^HTTP\/1\.1 (\d{3}) /u.exec(text)?.[1])
  return end < 0 || Number.isNaN(status) ? undefined : { status, body: text.slice(end + 4), at: performance.now() }
}

/**
 * @param what method and path: `GET /status`
 * @param json text of the body
 */
export const ask = (port: number, what: string, token?: string, json = ""): Effect.Effect<Answer, BenchFailed> =>
  Effect.callback((resume) => {
    let text = ""
    const socket = Net.connect({ port, host: "127.0.0.1", noDelay: true })
    socket.setEncoding("utf8")
    socket.on("data", (chunk) => {
      text += String(chunk)
    })
    socket.on("error", (cause) => resume(Effect.fail(new BenchFailed({ message: `no answer to ${what}`, cause }))))
    socket.on("close", () => {
      const answer = parse(text)
      resume(answer === undefined ? fail(`no whole answer to ${what}`) : Effect.succeed(answer))
    })
    const authorization = token === undefined ? "" : `authorization: Bearer ${token}\r\n`
    const type = json === "" ? "" : "content-type: application/json\r\n"
    const head = `${what} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n${type}content-length: ${Buffer.byteLength(json)}\r\n`
    socket.write(`${head}${authorization}\r\n${json}`)
    return Effect.sync(() => socket.destroy())
  })

/** As `ask`; anything but a success is a failure. */
export const get = (port: number, path: string, token: string): Effect.Effect<string, BenchFailed> =>
  Effect.flatMap(ask(port, `GET ${path}`, token), ({ body, status }) =>
    status === 200 ? Effect.succeed(body) : fail(`GET ${path} answers ${status}: ${body}`)
  )

/** Asks every millisecond until there is an answer, whatever it says. */
export const firstAnswer = (port: number, what: string, token: string): Effect.Effect<Answer, BenchFailed> =>
  ask(port, what, token).pipe(
    Effect.catch(() => Effect.andThen(Effect.sleep("1 millis"), Effect.undefined)),
    Effect.repeat({ until: (answer) => answer !== undefined }),
    Effect.flatMap((answer) => (answer === undefined ? fail("no answer") : Effect.succeed(answer))),
    within("20 seconds", "no HTTP answer")
  )
