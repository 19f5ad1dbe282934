/**
 * Requests that nobody has thought of: for every route of both servers what its schemas allow, and what is wrong with it
 * in some way. Whatever comes, the answer is one that openapi.json promises, and nothing is left of it.
 *
 * `GENERATED_RUNS=500` asks each route so many times.
 */
import { gzipSync } from "node:zlib"
import { describe, expect, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpApi from "effect/http-api/HttpApi"
import type * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import type * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import { ExternalApi } from "../../src/http/api/ExternalApi.ts"
import { InternalApi } from "../../src/http/api/InternalApi.ts"
import { problem } from "../support/contract.ts"
import { eventsTo, ownToken, raw, start } from "./harness.ts"
import { repliesIn } from "./wire.ts"

const runs = Number(process.env["GENERATED_RUNS"] ?? 40)

// --- nodes ---------------------------------------------------------------------------------------------------------

/** Fibers of the nodes that have begun and not ended. */
let fibers = 0
const countFibers = Layer.succeed(Metric.FiberRuntimeMetrics, {
  recordFiberStart: () => {
    fibers++
  },
  recordFiberEnd: () => {
    fibers--
  }
})

const sockets = (): number => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length

type Node = Awaited<ReturnType<typeof start>>
type Status = keyof typeof eventsTo
const statuses = Object.keys(eventsTo).filter((name): name is Status => name in eventsTo)

/** What is wrong inside would be said here. */
const defects: Array<string> = []

const begin = async (status: Status): Promise<Node> => {
  const node = await start({
    events: eventsTo[status],
    references: countFibers,
    log: (line) => {
      if (/handler died|the answer broke off/u.test(line)) defects.push(line)
    }
  })
  // Nobody brings specs up, or Postgres down: the outcomes are there at once.
  await node.run(node.node.ended(Exit.succeed({ lsn: null })))
  void node
    .run(Effect.forever(Effect.flatMap(node.node.nextSubmitted, ({ done }) => Deferred.succeed(done, undefined))))
    .catch(() => {})
  return node
}

const nodes = new Map<Status, Promise<Node>>()

/** A node in that status: the one that was asked before, where it is that still. */
const nodeIn = async (status: Status): Promise<Node> => {
  const known = await nodes.get(status)
  if (known !== undefined) {
    const now = await known.run(known.node.state)
    if (now.status === status) return known
    await known.close()
  }
  const fresh = begin(status)
  nodes.set(status, fresh)
  return fresh
}

// --- requests ------------------------------------------------------------------------------------------------------

type Server = "external" | "internal"

interface Wire {
  readonly method: string
  readonly target: string
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>
  readonly body: Buffer | undefined
}

const nothing = Context.makeUnsafe<unknown>(new Map())

/** Values of a schema as they are on the wire. */
const encoded = (schema: Schema.Top): Arbitrary.Arbitrary<unknown> => {
  const encode = Schema.encodeUnknownEffect(schema)
  return Arbitrary.map(Arbitrary.schema(schema), (value) =>
    Effect.runSync(Effect.provideContext(encode(value), nothing))
  )
}

const record = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null ? { ...value } : {}

const search = (query: unknown): string => {
  const parts = Object.entries(record(query))
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(String(value).toWellFormed())}`)
  return parts.length === 0 ? "" : `?${parts.join("&")}`
}

interface Generator {
  readonly server: Server
  readonly name: string
  /** What its schemas allow. */
  readonly requests: Arbitrary.Arbitrary<Wire>
}

const requestsTo = ({ method, params, path, payload, query }: HttpApiEndpoint.Top): Arbitrary.Arbitrary<Wire> => {
  const [body] = [...payload.values()].flatMap(({ schemas }) => schemas)
  return Arbitrary.map(
    Arbitrary.all({
      params: params === undefined ? Arbitrary.Constant({}) : encoded(params),
      query: query === undefined ? Arbitrary.Constant({}) : encoded(query),
      body: body === undefined ? Arbitrary.Constant(undefined) : encoded(body)
    }),
    (values) => ({
      method,
      target:
        path.replace("*", () => encodeURIComponent(String(record(values.params)["*"] ?? "").toWellFormed())) +
        search(values.query),
      headers: body === undefined ? [] : [["content-type", "application/json"]],
      body: body === undefined ? undefined : Buffer.from(JSON.stringify(values.body))
    })
  )
}

const generators = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  server: Server,
  api: HttpApi.HttpApi<Id, Groups>
): ReadonlyArray<Generator> => {
  const all: Array<Generator> = []
  HttpApi.reflect(api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint }) => {
      all.push({ server, name: `${endpoint.method} ${endpoint.path}`, requests: requestsTo(endpoint) })
    }
  })
  return all
}

// --- mistakes ------------------------------------------------------------------------------------------------------

/** What is put in the place of something; `at` says where. */
const Junk = Schema.Struct({ at: Schema.Natural, value: Schema.Json, text: Schema.String })
type Junk = typeof Junk.Type

/** One place of a document replaced, or its member left out. */
const replaced = (document: unknown, { at, value }: Junk): unknown => {
  if (typeof document !== "object" || document === null) return value
  const entries = Object.entries(document)
  const chosen = entries[at % (entries.length + 1)]
  if (chosen === undefined) return value
  const [name, inner] = chosen
  const rest = Math.floor(at / (entries.length + 1))
  if (rest % 3 === 0) return Object.fromEntries(entries.filter(([other]) => other !== name))
  const changed = replaced(inner, { at: rest, value, text: "" })
  return Array.isArray(document)
    ? document.map((item, index) => (String(index) === name ? changed : item))
    : { ...document, [name]: changed }
}

const withBody = (wire: Wire, body: string | Buffer): Wire => ({ ...wire, body: Buffer.from(body) })
const withHeader = (wire: Wire, name: string, value: string): Wire => ({
  ...wire,
  headers: [...wire.headers, [name, value]]
})
const visible = (text: string): string => text.replaceAll(/[^\x20-\x7e]/gu, "~")
const cut = (text: string, at: number): number => (text.length === 0 ? 0 : at % text.length)

const mistakes: Readonly<Record<string, (wire: Wire, junk: Junk) => Wire>> = {
  none: (wire) => wire,
  "another member": (wire, junk) =>
    wire.body === undefined ? wire : withBody(wire, JSON.stringify(replaced(JSON.parse(wire.body.toString()), junk))),
  "another document": (wire, { value }) => withBody(wire, JSON.stringify(value)),
  "half a document": (wire, { at }) => {
    const text = wire.body?.toString() ?? "{}"
    return withBody(wire, text.slice(0, cut(text, at)))
  },
  "another text": (wire, { text }) => withBody(wire, text.toWellFormed()),
  "bytes that are no text": (wire, { at }) => withBody(wire, Buffer.from([0x7b, 0xff, at % 256])),
  "deep nesting": (wire, { at }) => withBody(wire, "[".repeat(at % 100_000)),
  "members that reach too far": (wire) =>
    withBody(wire, '{"__proto__":{"spec":1},"constructor":{"prototype":{}},"spec":{"__proto__":[]}}'),
  "a compressed body": (wire) => withHeader(withBody(wire, gzipSync(wire.body ?? "{}")), "content-encoding", "gzip"),
  "too much": (wire) => withBody(wire, " ".repeat(2 * 1024 * 1024 + 1)),
  "another content type": (wire, { text }) => ({ ...wire, headers: [["content-type", visible(text)]] }),
  "another method": (wire, { at }) => ({
    ...wire,
    method: ["HEAD", "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "fly"][at % 9] ?? "GET"
  }),
  "another query": (wire, { text }) => ({
    ...wire,
    target: `${wire.target.split("?", 1)[0]}?${encodeURI(text.toWellFormed())}`
  }),
  "the query twice": (wire) => ({ ...wire, target: `${wire.target}&${wire.target.split("?")[1] ?? ""}` }),
  "more of a path": (wire, { text }) => ({
    ...wire,
    target: `${wire.target}/${encodeURIComponent(text.toWellFormed())}`
  }),
  "an escape that is none": (wire, { at }) => ({
    ...wire,
    target: `${wire.target}${["%", "%f", "%ff", "%00", "%2f..%2f", ";a", "#a", "?%ff"][at % 8]}`
  }),
  "another token": (wire, { text }) => ({
    ...wire,
    headers: [["authorization", visible(`Bearer ${text}`)], ...wire.headers]
  }),
  "a header": (wire, { text }) => withHeader(wire, "x-request-id", visible(text)),
  "a trace that is none": (wire, { text }) => withHeader(wire, "traceparent", `00-${visible(text)}-01`),
  "an expectation": (wire, { at }) => withHeader(wire, "expect", at % 2 === 0 ? "100-continue" : "miracles"),
  "an upgrade": (wire) => withHeader(wire, "upgrade", "h2c"),
  "two content types": (wire) => withHeader(wire, "content-type", "text/plain"),
  cookies: (wire, { text }) => withHeader(wire, "cookie", visible(text)),
  "a body in chunks": (wire) => withHeader(wire, "transfer-encoding", "chunked")
}

const bytesOf = ({ body, headers, method, target }: Wire): Buffer => {
  const isChunked = headers.some(([name]) => name === "transfer-encoding")
  const given = headers.some(([name]) => name === "authorization") ? [] : [["authorization", `Bearer ${ownToken}`]]
  const lines = [
    `${method} ${target} HTTP/1.1`,
    ...[["host", "x"], ["connection", "close"], ...given, ...headers].map(([name, value]) => `${name}: ${value}`),
    ...(body === undefined || isChunked ? [] : [`content-length: ${body.length}`])
  ]
  const content = body ?? Buffer.alloc(0)
  const chunk =
    content.length === 0 ? [] : [Buffer.from(`${content.length.toString(16)}\r\n`), content, Buffer.from("\r\n")]
  return Buffer.concat([
    Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"),
    ...(isChunked ? [...chunk, Buffer.from("0\r\n\r\n")] : [content])
  ])
}

// --- properties ----------------------------------------------------------------------------------------------------

const portOf = (node: Node, server: Server): number => (server === "external" ? node.externalPort : node.internalPort)

/** What was tried, and what came of it: lest all of it were the same. */
const tried = { mistakes: new Set<string>(), statuses: new Set<number>() }

/** Sends bytes; what is wrong with what comes back, undefined where nothing is. */
const complaint = async (node: Node, server: Server, wire: Wire): Promise<string | undefined> => {
  const answer = await raw(portOf(node, server), bytesOf(wire))
  const reply = repliesIn(answer, wire.method).at(-1)
  if (reply === undefined) return `no whole answer: ${JSON.stringify(answer.slice(0, 200))}`
  tried.statuses.add(reply.status)
  const found = problem({ server, what: `${wire.method} ${wire.target}`, ...reply })
  return found === undefined ? defects.pop() : `${found}\n${answer.slice(0, 600)}`
}

/** Fails with the smallest request that is not answered well. */
const check = <A>(
  arbitrary: Arbitrary.Arbitrary<A>,
  property: (value: A) => Promise<string | undefined>,
  count: number
) =>
  Effect.gen(function* () {
    const result = yield* Arbitrary.checkEffect(
      arbitrary,
      (value) =>
        Effect.flatMap(
          Effect.promise(() => property(value)),
          (found) => (found === undefined ? Effect.succeed(true) : Effect.fail(found))
        ),
      { runs: count, size: 6, maxShrinks: 100 }
    )
    return Arbitrary.formatCheckFailure(result)
  }).pipe(Effect.runPromise)

const Chosen = Schema.Struct({
  status: Schema.Literals(statuses),
  mistake: Schema.Literals(Object.keys(mistakes)),
  junk: Junk
})

const all = [...generators("external", ExternalApi), ...generators("internal", InternalApi)]

describe("a generated request", () => {
  it.each(all.map((one) => [`${one.server} ${one.name}`, one] as const))(
    "to %s",
    async (_name, { requests, server }) => {
      const found = await check(
        Arbitrary.all({ wire: requests, chosen: Arbitrary.schema(Chosen) }),
        async ({ chosen, wire }) => {
          const node = await nodeIn(chosen.status)
          tried.mistakes.add(chosen.mistake)
          return complaint(node, server, (mistakes[chosen.mistake] ?? mistakes["none"])?.(wire, chosen.junk) ?? wire)
        },
        runs
      )
      expect(found).toBeUndefined()
    }
  )
})

describe("a request with broken bytes", () => {
  const Broken = Schema.Struct({
    place: Schema.Natural,
    byte: Schema.Natural,
    remove: Schema.Natural,
    route: Schema.Natural
  })

  it("is answered, or its connection closed", async () => {
    const found = await check(
      Arbitrary.schema(Broken),
      async ({ byte, place, remove, route }) => {
        const node = await nodeIn("running")
        const { name, server } = all[route % all.length] ?? { name: "GET /status", server: "external" }
        const [method = "", target = ""] = name.split(" ")
        const bytes = bytesOf({
          method,
          target,
          headers: [["content-type", "application/json"]],
          body: Buffer.from("{}")
        })
        const at = place % bytes.length
        const broken = Buffer.concat([
          bytes.subarray(0, at),
          Buffer.from([byte % 256]),
          bytes.subarray(at + (remove % 4))
        ])
        const answer = await raw(portOf(node, server), broken, true).catch(() => "")
        const died = defects.pop()
        if (died !== undefined) return died
        return repliesIn(answer, method).every(({ text }) => !text.includes("internal error")) ? undefined : answer
      },
      runs * 10
    )
    expect(found).toBeUndefined()
  })
})

describe("afterwards", () => {
  it("every mistake was made, and answers of every kind were seen", () => {
    expect([...tried.mistakes].sort()).toEqual(Object.keys(mistakes).sort())
    for (const status of [200, 400, 401, 404, 405, 412, 415, 422, 500]) expect(tried.statuses).toContain(status)
  })

  it("no fiber, no connection and no defect is left", async () => {
    for (const node of nodes.values()) await (await node).close()
    await expect.poll(() => [fibers, sockets()]).toEqual([0, 0])
    expect(defects).toEqual([])
  })
})
