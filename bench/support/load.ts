/**
 * Child process of the HTTP benchmark: the load, away from the event loop that is measured.
 *
 * Keep-alive connections over bare sockets, one request at a time on each, no pipelining. Serves `LoadRequest`s of the
 * parent, one after the other, until the parent is gone.
 */
import * as Net from "node:net"
import * as timers from "node:timers/promises"
import * as Schema from "effect/Schema"
import { type LoadReport, LoadRequest } from "./protocol.ts"

const headEnd = Buffer.from("\r\n\r\n")

/** Bytes of a whole response, once its head is there. */
const responseLength = (received: Buffer): number | undefined => {
  const end = received.indexOf(headEnd)
  if (end < 0) return undefined
  const head = received.toString("latin1", 0, end)
  const length = /\r\ncontent-length: (\d+)/iu.exec(head)?.[1]
  if (!head.startsWith("HTTP/1.1 200 ") || length === undefined) throw new Error(`not what was wanted: ${head}`)
  return end + headEnd.length + Number(length)
}

interface Connection {
  /** Sends the request; ends with the whole answer. */
  readonly ask: () => Promise<void>
  readonly close: () => void
}

const connect = (port: number, request: Buffer): Promise<Connection> =>
  new Promise((opened, failed) => {
    let rest: Buffer | undefined
    let waiting: PromiseWithResolvers<void> | undefined
    const fail = (cause: unknown): void => {
      waiting?.reject(cause)
      failed(cause)
    }
    const socket = Net.connect({ port, host: "127.0.0.1", noDelay: true }, () =>
      opened({
        ask: () => {
          waiting = Promise.withResolvers()
          socket.write(request)
          return waiting.promise
        },
        close: () => socket.destroy()
      })
    )
    socket.on("data", (chunk: Buffer) => {
      const received = rest === undefined ? chunk : Buffer.concat([rest, chunk])
      try {
        const length = responseLength(received)
        rest = length === undefined || received.length < length ? received : undefined
        if (rest === undefined) waiting?.resolve()
      } catch (cause) {
        fail(cause)
      }
    })
    socket.on("error", fail)
    socket.on("close", () => fail(new Error("the server closed the connection")))
  })

/** Value below which that part of the sorted samples lies. */
const quantile = (sorted: Float64Array, part: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN

const report = (millis: ReadonlyArray<number>, began: number): LoadReport => {
  const sorted = Float64Array.from(millis).sort()
  return {
    requests: sorted.length,
    seconds: (performance.now() - began) / 1000,
    p50: quantile(sorted, 0.5),
    p99: quantile(sorted, 0.99),
    max: sorted.at(-1) ?? Number.NaN
  }
}

/** Every connection asks again as soon as it has its answer. */
const closedLoop = async (connections: ReadonlyArray<Connection>, more: () => boolean): Promise<LoadReport> => {
  const millis: Array<number> = []
  const began = performance.now()
  const work = async ({ ask }: Connection): Promise<void> => {
    while (more()) {
      const sent = performance.now()
      await ask()
      millis.push(performance.now() - sent)
    }
  }
  await Promise.all(connections.map(work))
  return report(millis, began)
}

/** Requests at fixed moments, whatever becomes of the earlier ones; time counts from the moment, not from the sending. */
const openLoop = async (
  connections: ReadonlyArray<Connection>,
  rate: number,
  more: () => boolean
): Promise<LoadReport> => {
  const millis: Array<number> = []
  const idle = [...connections]
  const due: Array<number> = []
  const asked: Array<Promise<void>> = []
  const work = async (connection: Connection): Promise<void> => {
    for (let moment = due.shift(); moment !== undefined; moment = due.shift()) {
      await connection.ask()
      millis.push(performance.now() - moment)
    }
    idle.push(connection)
  }
  const began = performance.now()
  for (let sent = 1; more(); sent++) {
    const moment = began + (sent * 1000) / rate
    await timers.setTimeout(Math.max(0, moment - performance.now()))
    due.push(moment)
    const connection = idle.pop()
    if (connection !== undefined) asked.push(work(connection))
  }
  await Promise.all(asked)
  return report(millis, began)
}

/** Whether one more request is to be sent. */
const until = ({ requests, seconds }: LoadRequest): (() => boolean) => {
  let sent = 0
  const end = performance.now() + (seconds ?? Number.POSITIVE_INFINITY) * 1000
  return () => !stopped && sent++ < (requests ?? Number.POSITIVE_INFINITY) && performance.now() < end
}

let stopped = false

const run = async (request: LoadRequest): Promise<LoadReport> => {
  stopped = false
  const bytes = Buffer.from(
    `GET ${request.path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer ${request.token}\r\n\r\n`
  )
  const connections = await Promise.all(Array.from({ length: request.connections }, () => connect(request.port, bytes)))
  try {
    const more = until(request)
    return await (request.rate === undefined
      ? closedLoop(connections, more)
      : openLoop(connections, request.rate, more))
  } finally {
    for (const connection of connections) connection.close()
  }
}

const decode = Schema.decodeUnknownSync(Schema.Union([LoadRequest, Schema.Literal("stop")]))

process.on("message", (message) => {
  const request = decode(message)
  if (request === "stop") {
    stopped = true
    return
  }
  run(request).then(
    (answer) => process.send?.(answer),
    (cause: unknown) => process.send?.({ failed: cause instanceof Error ? cause.message : String(cause) })
  )
})
process.once("disconnect", () => process.exit(0))
