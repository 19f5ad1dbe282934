/** `GET /autoscaling_metrics` against a stand-in for the communicator process of the neon extension. */
import * as fs from "node:fs/promises"
import * as Http from "node:http"
import * as Net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { request, start } from "./harness.ts"

const metrics = "# TYPE lfc_hits gauge\nlfc_hits 3\n"

/** A PGDATA with something that listens on the socket, and a node over it. */
const nodeWith = (answer: Http.RequestListener | ((socket: Net.Socket) => void), kind: "http" | "raw", deep = "") =>
  Effect.gen(function* () {
    const directory = yield* Effect.acquireRelease(
      Effect.promise(() => fs.mkdtemp(join(tmpdir(), "compute-lfc-"))),
      (path) => Effect.promise(() => fs.rm(path, { recursive: true, force: true }))
    )
    const pgdata = join(directory, deep)
    yield* Effect.promise(() => fs.mkdir(pgdata, { recursive: true }))
    const server = kind === "http" ? Http.createServer() : Net.createServer()
    server.on(kind === "http" ? "request" : "connection", answer)
    // The address of a socket is short: listen where it is, under a name that is.
    const link = join(tmpdir(), `compute-lfc-${process.pid}-${performance.now()}`)
    yield* Effect.acquireRelease(
      Effect.promise(async () => {
        await fs.symlink(pgdata, link)
        await new Promise<void>((resolve) => server.listen(join(link, "neon-communicator.socket"), resolve))
      }),
      () => Effect.promise(() => fs.rm(link).then(() => void server.close()))
    )
    const node = yield* Effect.acquireRelease(
      Effect.promise(() => start({ params: { pgdata } })),
      (started) => Effect.promise(() => started.close())
    )
    return Effect.promise(() => request(node.externalPort, "GET /autoscaling_metrics").catch(String))
  })

it.live.each([
  ["in PGDATA", ""],
  ["in a PGDATA whose path is longer than the address of a socket", `${"a".repeat(70)}/${"b".repeat(70)}`]
] as const)("the answer of a service %s goes through, with its type alone", ([_where, deep]) =>
  Effect.gen(function* () {
    const seen: Array<string> = []
    const ask = yield* nodeWith(
      (asked: Http.IncomingMessage, answer: Http.ServerResponse) => {
        seen.push(`${asked.method} ${asked.url} ${asked.headers.host}`)
        answer.writeHead(200, { "content-type": "application/text", "x-other": "1" })
        answer.write(metrics)
        setTimeout(() => answer.end("lfc_misses 4\n"), 20)
      },
      "http",
      deep
    )
    const reply = yield* ask
    expect(reply).toMatchObject({ status: 200, text: `${metrics}lfc_misses 4\n` })
    expect(reply).toMatchObject({ headers: { "content-type": "application/text" } })
    expect(reply).not.toHaveProperty("headers.x-other")
    expect(seen).toEqual(["GET /autoscaling_metrics localhost"])
  })
)

it.live("another status of the service goes through, too", () =>
  Effect.gen(function* () {
    const ask = yield* nodeWith((_: Http.IncomingMessage, answer: Http.ServerResponse) => {
      answer.writeHead(503, { "content-type": "text/plain" }).end("not yet")
    }, "http")
    expect(yield* ask).toMatchObject({ status: 503, text: "not yet", headers: { "content-type": "text/plain" } })
  })
)

it.live("a service that says nothing sensible is 500", () =>
  Effect.gen(function* () {
    const ask = yield* nodeWith((socket: Net.Socket) => socket.end("what?\r\n\r\n"), "raw")
    expect(yield* ask).toMatchObject({
      status: 500,
      json: { error: expect.stringMatching(/^fetching metrics from Postgres metrics service: ./u) }
    })
  })
)

it.live("an answer that breaks off breaks ours", () =>
  Effect.gen(function* () {
    const ask = yield* nodeWith((socket: Net.Socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
      setTimeout(() => socket.destroy(), 50)
    }, "raw")
    expect(yield* ask).toMatch(/aborted|socket hang up/u)
  })
)
