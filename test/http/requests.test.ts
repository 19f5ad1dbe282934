import * as Net from "node:net"
import { gzipSync } from "node:zlib"
import { describe, expect, it } from "@effect/vitest"
import {
  type Call,
  configuration,
  eventsTo,
  jsonBody,
  ownToken,
  parsedSpec,
  raw,
  spec,
  start,
  tenant
} from "./harness.ts"

const parseError = "failed to parse the request body as json: "
const shapeError = "failed to deserialize the json body into the target type: "
const queryError = "failed to deserialize query string: "
const wrongType = "expected request with `content-type: application/json`"

/** Routes with a JSON body, and a body that each of them takes. */
const routes = [
  ["external", "POST /configure", configuration],
  ["external", "POST /promote", { spec, wal_flush_lsn: "0/1" }],
  ["internal", "POST /extensions", { extension: "a", database: "b", version: "1" }],
  ["internal", "POST /grants", { database: "a", schema: "b", role: "c", privileges: ["CREATE"] }]
] as const

const withType = (type: string | undefined, body: string | Buffer): Call => ({
  body,
  headers: type === undefined ? {} : { "content-type": type }
})

describe.each(routes)("body of %s %s", (server, what, good) => {
  const text = JSON.stringify(good)

  it.each([
    ["no body", {}],
    ["no content type", withType(undefined, text)],
    ["text", withType("text/plain", text)],
    ["a form", withType("application/x-www-form-urlencoded", text)],
    ["a name that only begins like it", withType("application/jsonx", text)]
  ])("S-063 %s is 415", async (_name, call) => {
    await using node = await start({ events: eventsTo.failed })
    const reply = await node[server](what, call)
    expect([reply.status, reply.json]).toEqual([415, { error: wrongType }])
  })

  it.each([
    ["an open brace", "{"],
    ["nothing", ""],
    ["a word", "hello"],
    ["text behind the document", `${text}x`],
    ["a comma too much", text.replace("{", "{,")],
    ["half a document", text.slice(0, -1)],
    ["no UTF-8", Buffer.from([...Buffer.from('{"spec":"'), 0xff, ...Buffer.from('"}')])]
  ])("S-063 %s is 400", async (_name, body) => {
    await using node = await start({ events: eventsTo.failed })
    const reply = await node[server](what, withType("application/json", body))
    expect(reply.status).toBe(400)
    expect(reply.json).toEqual({ error: expect.stringMatching(new RegExp(`^${parseError}[^A-Z]+$`, "u")) })
  })

  it.each([["{}"], ["[]"], ["null"], ["7"], ['"x"']])("S-063 %s is 422", async (body) => {
    await using node = await start({ events: eventsTo.failed })
    const reply = await node[server](what, withType("application/json", body))
    expect(reply.status).toBe(422)
    expect(reply.json).toEqual({ error: expect.stringMatching(new RegExp(`^${shapeError}[^A-Z]+$`, "u")) })
  })

  it.each([
    ["with a character set", "application/json; charset=utf-8"],
    ["in capitals", "Application/JSON"],
    ["of a kind of JSON", "application/vnd.neon+json"]
  ])("a content type %s is taken, and the status is looked at only then", async (_name, type) => {
    await using node = await start({ events: eventsTo.failed })
    const reply = await node[server](what, withType(type, text))
    expect(reply.status).toBe(412)
  })

  it("unknown members and a byte order mark are no matter", async () => {
    await using node = await start({ events: eventsTo.failed })
    const reply = await node[server](what, jsonBody(`\ufeff${JSON.stringify({ ...good, unknown: [1] })}`))
    expect(reply.status).toBe(412)
  })
})

describe("encoding of a body", () => {
  const text = JSON.stringify(configuration)

  it.each([
    ["compressed", gzipSync(text), { "content-encoding": "gzip" }],
    ["UTF-16", Buffer.from(text, "utf16le"), { "content-type": "application/json; charset=utf-16" }],
    ["Latin 1", Buffer.from('{"spec":"\xe4"}', "latin1"), { "content-type": "application/json; charset=iso-8859-1" }]
  ])("%s is 400, and changes nothing", async (_name, body, headers) => {
    await using node = await start()
    const reply = await node.external("POST /configure", {
      body,
      headers: { "content-type": "application/json", ...headers }
    })
    expect([reply.status, reply.json]).toEqual([400, { error: expect.stringMatching(`^${parseError}`) }])
    expect((await node.external("GET /status")).json).toMatchObject({ status: "empty", tenant: null })
  })
})

describe("size of a body", () => {
  const tooLarge = [413, { error: "failed to buffer the request body: length limit exceeded" }]
  const limit = 2 * 1024 * 1024
  const head = `POST /configure HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${ownToken}\r\ncontent-type: application/json\r\n`

  it("2 MiB are taken, one byte more is 413", async () => {
    await using node = await start()
    const exact = await node.external("POST /configure", jsonBody(" ".repeat(limit)))
    expect(exact.status).toBe(400) // read, and found to be no JSON
    const over = await node.external("POST /configure", jsonBody(" ".repeat(limit + 1)))
    expect([over.status, over.json]).toEqual(tooLarge)
  })

  it("a chunked body is 413 as soon as it is over, however much more there is", async () => {
    await using node = await start()
    const answer = await new Promise<string>((resolve, reject) => {
      const socket = Net.connect(node.externalPort, "127.0.0.1")
      const chunk = `10000\r\n${" ".repeat(0x10000)}\r\n`
      let received = ""
      const pump = (): void => {
        while (!socket.destroyed && received === "" && socket.write(chunk)) {}
      }
      socket.on("drain", pump)
      socket.on("data", (data) => {
        received += data.toString()
      })
      socket.on("error", () => {})
      socket.on("close", () => (received === "" ? reject(new Error("no answer")) : resolve(received)))
      socket.write(`${head}transfer-encoding: chunked\r\n\r\n`, pump)
    })
    expect(answer).toMatch(/^HTTP\/1\.1 413 /u)
    expect(answer).toContain(JSON.stringify(tooLarge[1]))
  })

  it("a client that announces too much is answered while it still sends", async () => {
    await using node = await start()
    const answer = await raw(
      node.externalPort,
      `${head}content-length: ${100 * limit}\r\n\r\n${" ".repeat(limit + 300 * 1024)}`
    )
    expect(answer).toMatch(/^HTTP\/1\.1 413 /u)
  })

  it("a body that nobody reads does not end the connection", async () => {
    await using node = await start()
    const answer = await raw(
      node.internalPort,
      [
        `POST /refresh_configuration HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n${"a".repeat(1000)}`,
        "GET /nope HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
      ].join("")
    )
    expect(answer.match(/HTTP\/1\.1 \d+/gu)).toEqual(["HTTP/1.1 500", "HTTP/1.1 404"])
  })
})

describe("what a refusal says", () => {
  it.each([
    [
      "the place of a wrong type",
      { ...configuration, spec: { ...spec, format_version: "one" } },
      /: spec\.format_version: /u
    ],
    [
      "the place in a list",
      { ...configuration, spec: { ...spec, cluster: { ...spec.cluster, roles: [{ name: 1 }] } } },
      /: spec\.cluster\.roles\[0\]\.name: /u
    ],
    ["a bad id", { ...configuration, spec: { ...spec, tenant_id: "xyz" } }, /: spec\.tenant_id: /u],
    ["a missing member", { spec }, /: missing field `compute_ctl_config`$/u]
  ])("%s", async (_name, body, pattern) => {
    await using node = await start()
    const reply = await node.external("POST /configure", jsonBody(body))
    expect(reply.status).toBe(422)
    expect(reply.json).toEqual({ error: expect.stringMatching(pattern) })
  })

  it("nothing of the document, which may hold a password", async () => {
    const lines: Array<string> = []
    await using node = await start({ log: (line) => lines.push(line) })
    const secret = "s3cr3t"
    const roles = [{ name: "a", encrypted_password: 7, options: secret }]
    const bodies = [
      `{"password": ${secret}`,
      `${secret}`,
      `{"a": "${secret}" "${secret}"}`,
      JSON.stringify({ ...configuration, spec: { ...spec, cluster: { ...spec.cluster, roles } } }),
      JSON.stringify({ ...configuration, spec: { ...spec, mode: secret } }),
      JSON.stringify({ ...configuration, spec: { ...spec, tenant_id: secret } })
    ]
    for (const body of bodies) {
      const reply = await node.external("POST /configure", jsonBody(body))
      expect([400, 422]).toContain(reply.status)
      expect(reply.text).not.toContain(secret)
    }
    expect(lines.join("\n")).not.toContain(secret)
  })
})

describe("queries", () => {
  it.each([
    ["external", "POST /terminate?", `${queryError}missing field \`mode\``],
    ["external", "POST /terminate?foo=1", `${queryError}missing field \`mode\``],
    ["external", "POST /terminate?mode=slow", `${queryError}mode: expected "fast" | "immediate"`],
    ["external", "POST /terminate?mode=", `${queryError}mode: expected "fast" | "immediate"`],
    ["external", "POST /lfc/prewarm?", `${queryError}missing field \`from_endpoint\``],
    ["external", "POST /lfc/prewarm?foo=1", `${queryError}missing field \`from_endpoint\``],
    ["external", "GET /database_schema", `${queryError}missing field \`database\``],
    ["external", "GET /database_schema?database=a%00b", `${queryError}database: expected a text without nul`],
    ["external", "GET /database_schema?x=1", `${queryError}missing field \`database\``],
    ["internal", "POST /extension_server/a?is_library=1", `${queryError}is_library: expected "true" | "false"`],
    ["internal", "POST /extension_server/%ff", "invalid url: the path is not valid utf-8 after percent-decoding"],
    [
      "internal",
      "POST /extension_server/a/%e4b?is_library=true",
      "invalid url: the path is not valid utf-8 after percent-decoding"
    ]
  ] as const)("%s %s is 400", async (server, what, error) => {
    await using node = await start({ events: eventsTo.running })
    const reply = await node[server](what)
    expect([reply.status, reply.json]).toEqual([400, { error }])
    expect((await node.external("GET /status")).json).toMatchObject({ status: "running", tenant: null })
  })

  it.each([
    ["external", "POST /lfc/prewarm", 501],
    ["external", "POST /lfc/prewarm?from_endpoint=ep-1&more=1", 501],
    ["external", "POST /lfc/prewarm?from_endpoint=", 501],
    ["external", "GET /database_schema?database=a%20b%3Dc&more=1", 503],
    ["external", "GET /database_schema?database=", 503],
    ["internal", "POST /extension_server/postgis-3.so?is_library=true", 412],
    ["internal", "POST /extension_server/a%2Fb/c%20d?is_library=false", 412]
  ] as const)("%s %s is well-formed", async (server, what, status) => {
    const postgres = { host: "localhost", port: 1, user: "a", database: "a", password: undefined, options: undefined }
    await using node = await start({ events: eventsTo.running, live: parsedSpec(), params: { postgres } })
    expect((await node[server](what)).status).toBe(status)
  })

  it("the document of a spec that cannot be served is 400, with what is missing", async () => {
    await using node = await start()
    const without = (name: keyof typeof spec) => {
      const { [name]: _dropped, ...rest } = spec
      return { ...configuration, spec: rest }
    }
    const cases = [
      [without("tenant_id"), "tenant id should be provided"],
      [without("timeline_id"), "timeline id should be provided"],
      [without("pageserver_connstring"), "pageserver connection information should be provided"],
      [
        { ...configuration, spec: { ...spec, safekeeper_connstrings: ["a:1", "a:1"] } },
        "duplicate entry in safekeeper_connstrings: a:1!"
      ]
    ] as const
    for (const [body, error] of cases) {
      const reply = await node.external("POST /configure", jsonBody(body))
      expect([reply.status, reply.json]).toEqual([400, { error }])
    }
    const promoted = await node.external("POST /promote", jsonBody({ ...without("tenant_id"), wal_flush_lsn: "0/1" }))
    expect([promoted.status, promoted.json]).toEqual([400, { error: "tenant id should be provided" }])
    expect((await node.external("GET /status")).json).toMatchObject({ status: "empty", tenant: null })
    expect(tenant).toHaveLength(32)
  })
})
