import * as Http from "node:http"
import * as Net from "node:net"
import * as timers from "node:timers/promises"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { listen } from "../../src/http/listen.ts"
import { configuration, eventsTo, jsonBody, ownToken, raw, request, start } from "./harness.ts"
import { repliesIn } from "./wire.ts"

const authorization = `authorization: Bearer ${ownToken}\r\n`

const occupy = (host: string, port = 0): Promise<Net.Server> =>
  new Promise((resolve, reject) => {
    const server = Net.createServer()
    server.once("error", reject)
    server.listen({ host, port, ipv6Only: true }, () => resolve(server))
  })

const portOf = (server: Net.Server): number => {
  const address = server.address()
  return typeof address === "object" && address !== null ? address.port : 0
}

/** Whether this machine has IPv6 at all. */
const hasIpv6 = await occupy("::1").then(
  (server) => {
    server.close()
    return true
  },
  () => false
)

const refusesConnections = async (port: number): Promise<boolean> =>
  request(port, "GET /metrics").then(
    () => false,
    () => true
  )

describe("addresses", () => {
  it.runIf(hasIpv6)("both servers answer on both families", async () => {
    await using node = await start()
    expect(node.servers.external).toEqual([{ host: "::", port: node.externalPort }])
    expect(node.servers.internal).toEqual([
      { host: "127.0.0.1", port: node.internalPort },
      { host: "::1", port: node.internalPort }
    ])
    for (const host of ["127.0.0.1", "::1", "localhost"]) {
      expect((await request(node.externalPort, "GET /metrics", { host })).status).toBe(200)
      expect((await request(node.internalPort, "GET /nope", { host })).status).toBe(404)
    }
  })

  it("hosts that are given are the only ones", async () => {
    await using node = await start({ params: { externalHttpHost: "127.0.0.1", internalHttpHost: "127.0.0.1" } })
    expect(node.servers).toEqual({
      external: [{ host: "127.0.0.1", port: node.externalPort }],
      internal: [{ host: "127.0.0.1", port: node.internalPort }]
    })
    expect((await request(node.externalPort, "GET /metrics")).status).toBe(200)
    await expect(request(node.externalPort, "GET /metrics", { host: "::1" })).rejects.toThrow()
  })

  it("the log says where", async () => {
    const lines: Array<string> = []
    await using node = await start({ log: (line) => lines.push(line), params: { internalHttpHost: "127.0.0.1" } })
    expect(lines).toEqual([
      "Info Launching the external server",
      expect.stringMatching(
        new RegExp(
          `^Info compute_ctl external HTTP server listening at (\\[::\\]|0\\.0\\.0\\.0):${node.externalPort}$`,
          "u"
        )
      ),
      "Info Launching the internal server",
      `Info compute_ctl internal HTTP server listening at 127.0.0.1:${node.internalPort}`
    ])
  })
})

describe("a port that cannot be bound", () => {
  it.each([
    ["external", "127.0.0.1"],
    ["internal", "127.0.0.1"]
  ] as const)("%s: fails with the address, and leaves nothing behind", async (server, host) => {
    const taken = await occupy(host)
    const port = portOf(taken)
    const other = await occupy("127.0.0.1")
    const free = portOf(other)
    other.close()
    const params =
      server === "external"
        ? { externalHttpPort: port, externalHttpHost: host, internalHttpPort: free }
        : { internalHttpPort: port, externalHttpPort: free }
    await expect(start({ params })).rejects.toMatchObject({
      _tag: "BindFailed",
      server,
      address: `${host}:${port}`,
      message: `failed to bind the compute_ctl ${server} HTTP server to ${host}:${port}: address already in use`
    })
    expect(await refusesConnections(free)).toBe(true)
    taken.close()
  })

  it("an IPv4 listener is in the way of all addresses too", async () => {
    const taken = await occupy("0.0.0.0")
    const port = portOf(taken)
    await expect(start({ params: { externalHttpPort: port } })).rejects.toMatchObject({
      _tag: "BindFailed",
      message: expect.stringContaining(`:${port}: address already in use`)
    })
    taken.close()
  })

  it.runIf(hasIpv6)("::1 counts: whoever listens there would get what Postgres sends to localhost", async () => {
    const taken = await occupy("::1")
    const port = portOf(taken)
    await expect(start({ params: { internalHttpPort: port } })).rejects.toMatchObject({ address: `[::1]:${port}` })
    expect(await refusesConnections(port)).toBe(true)
    taken.close()
  })

  it("an address of another machine, a name that nobody has", async () => {
    await expect(start({ params: { externalHttpHost: "192.0.2.1" } })).rejects.toMatchObject({
      _tag: "BindFailed",
      message: expect.stringContaining("192.0.2.1:0: cannot assign requested address")
    })
    await expect(start({ params: { internalHttpHost: "no.such.host.invalid" } })).rejects.toMatchObject({
      _tag: "BindFailed",
      message: expect.stringContaining("no.such.host.invalid:0")
    })
  })
})

describe("broken clients", () => {
  it.each([
    ["no HTTP", "hello\r\n\r\n", 400, "malformed request"],
    ["a method that does not exist", "FLY / HTTP/1.1\r\nhost: x\r\n\r\n", 400, "malformed request"],
    ["a header without a name", "GET /metrics HTTP/1.1\r\n: x\r\n\r\n", 400, "malformed request"],
    ["two lengths", "POST /x HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "malformed request"],
    ["a length that is none", "POST /x HTTP/1.1\r\ncontent-length: 1x\r\n\r\n", 400, "malformed request"],
    [
      "a length and chunks",
      "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
      400,
      "malformed request"
    ],
    [
      "an encoding of transfer that nobody knows",
      "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
      400,
      "malformed request"
    ],
    ["a control character in a header", "GET /metrics HTTP/1.1\r\nx: a\x00b\r\n\r\n", 400, "malformed request"],
    ["a header over two lines", "GET /metrics HTTP/1.1\r\nx: a\r\n b\r\n\r\n", 400, "malformed request"],
    ["a blank in front of the colon", "GET /metrics HTTP/1.1\r\nx : a\r\n\r\n", 400, "malformed request"],
    ["lines without a return", "GET /metrics HTTP/1.1\nhost: x\n\n", 400, "malformed request"],
    ["HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed request"],
    ["a target that is none", "GET metrics HTTP/1.1\r\n\r\n", 400, "malformed request"],
    ["a TLS client", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed request"],
    ["too long a target", `GET /${"y".repeat(40_000)} HTTP/1.1\r\n\r\n`, 431, "request header fields too large"],
    [
      "too much behind a chunk",
      `POST /configure HTTP/1.1\r\n${authorization}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n1;${"y".repeat(40_000)}\r\nx\r\n`,
      413,
      "chunk extensions too large"
    ],
    [
      "a head without end",
      `GET / HTTP/1.1\r\nx: ${"y".repeat(40_000)}\r\n\r\n`,
      431,
      "request header fields too large"
    ],
    ["a tunnel", "CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n", 404, "not found"]
  ] as const)("%s is answered with JSON and an id", async (_name, bytes, status, error) => {
    await using node = await start()
    const answer = await raw(node.externalPort, bytes)
    const [head = "", body] = answer.split("\r\n\r\n")
    expect(head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `, "u"))
    expect(head).toMatch(/\r\ncontent-type: application\/json\r\n/u)
    expect(head).toMatch(/\r\nx-request-id: [0-9a-f-]{36}\r\n/u)
    expect(head).toMatch(/\r\nconnection: close/u)
    expect(JSON.parse(body ?? "")).toEqual({ error })
    expect((await node.external("GET /status")).status).toBe(200)
  })

  it("a chunk that is none ends the request that was waiting for it", async () => {
    await using node = await start()
    const answer = await raw(
      node.externalPort,
      `POST /configure HTTP/1.1\r\nhost: x\r\n${authorization}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n`
    )
    expect(answer).toMatch(/^HTTP\/1\.1 400 /u)
    expect((await node.external("GET /status")).json).toMatchObject({ status: "empty" })
  })

  it("a body that ends too early ends its request, and changes nothing", async () => {
    await using node = await start()
    const body = JSON.stringify(configuration)
    const answer = await raw(
      node.externalPort,
      `POST /configure HTTP/1.1\r\nhost: x\r\n${authorization}content-type: application/json\r\ncontent-length: ${body.length + 1}\r\n\r\n${body}`,
      true
    )
    for (const { status, text } of repliesIn(answer, "POST")) {
      expect([status, JSON.parse(text)]).toEqual([400, { error: "malformed request" }])
    }
    expect((await node.external("GET /status")).json).toMatchObject({ status: "empty", tenant: null })
  })

  it("requests that come together are answered in their order, each with its id", async () => {
    await using node = await start()
    const get = (path: string, id: string, more = "") =>
      `GET ${path} HTTP/1.1\r\nhost: x\r\nx-request-id: ${id}\r\n${authorization}${more}\r\n`
    const answer = await raw(
      node.externalPort,
      [
        get("/status", "a"),
        get("/nope", "b"),
        get("/metrics", "c"),
        get("/lfc/offload", "d", "connection: close\r\n")
      ].join("")
    )
    const replies = repliesIn(answer, "GET")
    expect(replies.map(({ headers, status }) => [headers["x-request-id"], status])).toEqual([
      ["a", 200],
      ["b", 404],
      ["c", 200],
      ["d", 200]
    ])
  })

  it("what comes behind a broken request is not looked at", async () => {
    await using node = await start()
    const answer = await raw(
      node.externalPort,
      `GET /metrics HTTP/1.1\r\n: x\r\n\r\nPOST /terminate HTTP/1.1\r\nhost: x\r\n${authorization}\r\n`
    )
    expect(repliesIn(answer, "GET").map(({ status }) => status)).toEqual([400])
    expect((await node.external("GET /status")).json).toMatchObject({ status: "empty" })
  })

  it("a header twice: the first token counts, other values are joined or the first", async () => {
    await using node = await start()
    const ask = async (...lines: ReadonlyArray<string>) =>
      repliesIn(
        await raw(
          node.externalPort,
          `GET /status HTTP/1.1\r\nhost: x\r\nhost: y\r\nconnection: close\r\n${lines.join("\r\n")}\r\n\r\n`
        ),
        "GET"
      )[0]
    const good = `authorization: Bearer ${ownToken}`
    expect((await ask(good, "authorization: Bearer no.good.token"))?.status).toBe(200)
    expect((await ask("authorization: Bearer no.good.token", good))?.status).toBe(401)
    expect((await ask(good, "x-request-id: a", "x-request-id: b"))?.headers["x-request-id"]).toBe("a, b")
  })

  it("many headers are borne, and a request id of bytes that are no text", async () => {
    await using node = await start()
    const many = Array.from({ length: 500 }, (_, index) => `h${index}: 1\r\n`).join("")
    const [reply] = repliesIn(
      await raw(node.externalPort, `GET /status HTTP/1.1\r\n${many}${authorization}connection: close\r\n\r\n`),
      "GET"
    )
    expect(reply?.status).toBe(200)
    const [odd] = repliesIn(
      await raw(
        node.externalPort,
        Buffer.from("GET /metrics HTTP/1.1\r\nx-request-id: \xe4\xff\r\nconnection: close\r\n\r\n", "latin1")
      ),
      "GET"
    )
    expect([odd?.status, odd?.headers["x-request-id"]]).toEqual([200, "\xe4\xff"])
  })

  it("a client that goes away in the middle of its body changes nothing", async () => {
    await using node = await start()
    await raw(
      node.externalPort,
      `POST /configure HTTP/1.1\r\nhost: x\r\n${authorization}content-type: application/json\r\ncontent-length: 1000\r\n\r\n{`,
      true
    )
    expect((await node.external("GET /status")).json).toMatchObject({ status: "empty" })
  })

  it("neither host nor an unknown expectation are asked for", async () => {
    await using node = await start()
    const answer = await raw(
      node.externalPort,
      "GET /metrics HTTP/1.1\r\nexpect: miracles\r\nconnection: close\r\n\r\n"
    )
    expect(answer).toMatch(/^HTTP\/1\.1 200 /u)
    const old = await raw(node.externalPort, "GET /metrics HTTP/1.0\r\n\r\n")
    expect(old).toMatch(/^HTTP\/1\.1 200 /u)
    expect(old).toMatch(/\r\nconnection: close\r\n/iu)
    expect(old).not.toMatch(/\r\ntransfer-encoding:/iu)
  })

  it("a client that waits for 100 Continue gets it", async () => {
    await using node = await start()
    const reply = await node.external("POST /configure", {
      ...jsonBody("{}"),
      headers: { "content-type": "application/json", expect: "100-continue" }
    })
    expect(reply.status).toBe(422)
  })

  it("an upgrade that nobody offers is a request like others", async () => {
    await using node = await start()
    const answer = await raw(
      node.externalPort,
      "GET /metrics HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade, close\r\nsec-websocket-key: eA==\r\n\r\n"
    )
    expect(answer).toMatch(/^HTTP\/1\.1 200 /u)
  })
})

/** Connected, nothing sent yet. */
const connect = (port: number): Promise<Net.Socket> =>
  new Promise((resolve) => {
    const socket = Net.connect(port, "127.0.0.1", () => resolve(socket))
    socket.on("error", () => {})
  })

const closed = (socket: Net.Socket): Promise<void> =>
  new Promise((resolve) => (socket.closed ? resolve() : socket.once("close", () => resolve())))

/** A server that answers nothing, for as long as `use` takes. */
const listening = (more: { readonly requestTimeoutMillis?: number }, use: (port: number) => Promise<unknown>) =>
  Effect.gen(function* () {
    const [address] = yield* listen({
      name: "silent",
      bind: { _tag: "Host", host: "127.0.0.1" },
      port: 0,
      drain: "100 millis",
      handler: () => Effect.succeed(() => {}),
      ...more
    })
    yield* Effect.promise(() => use(address?.port ?? 0))
  }).pipe(Effect.scoped, Effect.runPromise)

describe("slow clients", () => {
  it.each([
    ["nothing", ""],
    ["half a head", "GET /metrics HTTP/1.1\r\nho"],
    ["half a body", "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{"]
  ])("one that sends %s gets 408 in the end", async (_name, bytes) => {
    await listening({ requestTimeoutMillis: 200 }, async (port) => {
      const answer = await raw(port, bytes)
      expect(answer).toMatch(/^HTTP\/1\.1 408 /u)
      expect(answer).toContain(JSON.stringify({ error: "request timed out" }))
    })
  })
})

describe("a client that sends a byte now and then", () => {
  const dripping = (head: string, drip: string) =>
    listening({ requestTimeoutMillis: 300 }, async (port) => {
      const socket = await connect(port)
      let received = ""
      socket.on("data", (chunk) => {
        received += chunk.toString()
      })
      socket.write(head)
      const timer = setInterval(() => socket.write(drip), 20)
      await closed(socket)
      clearInterval(timer)
      const [reply] = repliesIn(received, "POST")
      expect([reply?.status, reply?.text]).toEqual([408, JSON.stringify({ error: "request timed out" })])
    })

  it("gets 408 while it still sends headers", () => dripping("GET /metrics HTTP/1.1\r\n", "a: b\r\n"))

  it("gets 408 while it still sends its body", () =>
    dripping("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n", " "))
})

describe("the end of the servers", () => {
  it("idle connections are closed at once, whatever they have sent", async () => {
    const node = await start()
    const agent = new Http.Agent({ keepAlive: true, maxSockets: 4 })
    await Promise.all([1, 2, 3, 4].map(() => node.external("GET /status", { agent })))
    const silent = await connect(node.externalPort)
    const half = await connect(node.internalPort)
    half.write("GET /nope HTT")
    const began = performance.now()
    await node.close()
    expect(performance.now() - began).toBeLessThan(500)
    await Promise.all([closed(silent), closed(half)])
    expect(await refusesConnections(node.externalPort)).toBe(true)
    agent.destroy()
  })

  it("an answer on its way arrives whole, and says that the connection ends", async () => {
    const node = await start({ events: eventsTo.running })
    const agent = new Http.Agent({ keepAlive: true })
    const asked = node.external("POST /terminate", { agent })
    await node.run(node.node.terminateRequested)
    const closing = node.close()
    await expect.poll(() => refusesConnections(node.externalPort)).toBe(true)
    await node.run(
      Effect.andThen(Effect.orDie(node.node.transition("stopped")), node.node.ended(Exit.succeed({ lsn: null })))
    )
    const reply = await asked
    expect([reply.status, reply.json]).toEqual([200, { lsn: null }])
    expect(reply.headers.connection).toBe("close")
    await closing
    agent.destroy()
  })

  it("a handler that still waits is interrupted in the end, and says so", async () => {
    const node = await start()
    const asked = node.external("POST /configure", jsonBody(configuration))
    await node.run(node.node.nextSubmitted)
    const began = performance.now()
    await node.close()
    expect(performance.now() - began).toBeLessThan(1500)
    const reply = await asked
    expect([reply.status, reply.json]).toEqual([503, { error: "shutting down" }])
    expect(reply.headers["x-request-id"]).toBeDefined()
  })

  it("a client that does not send its body does not hold it up", async () => {
    const node = await start()
    const slow = await connect(node.externalPort)
    slow.write(
      `POST /configure HTTP/1.1\r\nhost: x\r\n${authorization}content-type: application/json\r\ncontent-length: 100\r\n\r\n{`
    )
    await request(node.externalPort, "GET /metrics")
    const began = performance.now()
    await node.close()
    expect(performance.now() - began).toBeLessThan(1500)
    await closed(slow)
  })

  it("a request that nobody answers does not hold it up", async () => {
    const began = performance.now()
    await listening({}, async (port) => {
      const socket = await connect(port)
      socket.write("GET / HTTP/1.1\r\n\r\n")
      await timers.setTimeout(50)
    })
    expect(performance.now() - began).toBeLessThan(1000)
  })
})

describe("many requests", () => {
  it("S-068 leave no connection and no growth behind", async () => {
    await using node = await start()
    const agent = new Http.Agent({ keepAlive: true, maxSockets: 8 })
    const paths = ["GET /status", "GET /metrics.json"]
    const burst = async (count: number): Promise<void> => {
      for (let sent = 0; sent < count; sent += 50) {
        const replies = await Promise.all(
          Array.from({ length: 50 }, (_, index) => node.external(paths[index % 2] ?? "", { agent }))
        )
        for (const reply of replies) expect(reply.status).toBe(200)
      }
    }
    const connections = () => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length
    await burst(1000)
    const before = { connections: connections(), heap: process.memoryUsage().heapUsed }
    const latencies: Array<number> = []
    for (let round = 0; round < 9; round++) {
      await burst(1000)
      const began = performance.now()
      await node.external("GET /status", { agent })
      latencies.push(performance.now() - began)
    }
    expect(connections()).toBe(before.connections)
    expect(process.memoryUsage().heapUsed - before.heap).toBeLessThan(64 * 1024 * 1024)
    expect(Math.min(...latencies)).toBeLessThan(100)
    agent.destroy()
    await expect.poll(connections).toBeLessThan(before.connections)
  })

  it("clients that leave in the middle leave nothing behind", async () => {
    await using node = await start({ events: eventsTo.running })
    const connections = () => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length
    const before = connections()
    for (let round = 0; round < 100; round++) {
      const patience = new AbortController()
      const asked = node.external("POST /terminate", { signal: patience.signal })
      setTimeout(() => patience.abort(), round % 5)
      await asked.catch(() => {})
    }
    await expect.poll(connections).toBeLessThanOrEqual(before)
    await node.run(node.node.ended(Exit.succeed({ lsn: null })))
    expect((await node.external("POST /terminate")).status).toBe(200)
  })
})
