import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpApi from "effect/http-api/HttpApi"
import type * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as Errors from "../../../src/http/api/Errors.ts"
import { ExternalApi } from "../../../src/http/api/ExternalApi.ts"
import { InternalApi } from "../../../src/http/api/InternalApi.ts"
import { ComputeClient, UnexpectedAnswer, Unreachable } from "../../../src/http/Client.ts"
import { statusOf } from "../../../src/http/client/errors.ts"
import { configuration, ownToken, spec, start } from "../harness.ts"
import { deserted, json, scripted, status } from "./scripted.ts"

type Node = Awaited<ReturnType<typeof start>>

const urls = (node: Node) => ({
  url: `http://127.0.0.1:${node.externalPort}`,
  internalUrl: `http://127.0.0.1:${node.internalPort}`
})

const connect = (node: Node) => ComputeClient.connect({ ...urls(node), token: ownToken })

/** What a promise is rejected with. */
const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    (value) => Promise.reject(new Error(`it was resolved: ${JSON.stringify(value)}`)),
    (error: unknown) => error
  )

const identifiers = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>
): ReadonlyArray<string> => {
  const found: Array<string> = []
  HttpApi.reflect(api, { onGroup: () => {}, onEndpoint: ({ endpoint }) => found.push(endpoint.identifier) })
  return found
}

describe("the surface", () => {
  it("has a method for every route of both servers, in both forms the same", async () => {
    const promises = ComputeClient.connect({ url: "http://127.0.0.1:1" })
    const effects = await Effect.runPromise(
      Effect.provide(ComputeClient.make({ url: "http://127.0.0.1:1" }), FetchHttpClient.layer)
    )
    for (const client of [promises, effects]) {
      expect(Object.keys(client).sort()).toEqual([...identifiers(ExternalApi), "internal", "waitFor"].sort())
      expect(Object.keys(client.internal).sort()).toEqual([...identifiers(InternalApi)].sort())
    }
  })

  it("has no name twice", () => {
    for (const names of [identifiers(ExternalApi), identifiers(InternalApi)]) {
      expect(new Set(names).size).toBe(names.length)
    }
  })
})

describe("a real node", () => {
  it("is told of in documents as they are on the wire", async () => {
    await using node = await start({ events: ["startup_begins"] })
    const client = connect(node)
    expect(await client.status()).toEqual((await node.external("GET /status")).json)
    expect(await client.timeline()).toEqual((await node.external("GET /timeline")).json)
    expect(await client.reconcile()).toEqual((await node.external("GET /reconcile")).json)
    expect(await client.startupMetrics()).toEqual((await node.external("GET /metrics.json")).json)
    expect(await client.prewarmState()).toEqual({ status: "not_prewarmed" })
    expect(await client.prometheus()).toBe((await node.external("GET /metrics")).text)
  })

  it("gives effects the same, as a service", async () => {
    await using node = await start()
    const program = Effect.gen(function* () {
      const client = yield* ComputeClient
      const refused = yield* Effect.flip(client.checkWritability())
      return { status: yield* client.status(), refused }
    })
    const layer = ComputeClient.layer({ ...urls(node), token: Redacted.make(ownToken) })
    const told = await Effect.runPromise(Effect.provide(program, Layer.provide(layer, FetchHttpClient.layer)))
    expect(told.status).toEqual((await node.external("GET /status")).json)
    expect(told.refused).toBeInstanceOf(Errors.PreconditionFailed)
    expect(told.refused).toMatchObject({ _tag: "PreconditionFailed", message: "invalid compute status: empty" })
  })

  it("gives the tag of an error a type that can be caught", async () => {
    await using node = await start()
    const program = Effect.flatMap(ComputeClient.make({ ...urls(node), token: ownToken }), (client) =>
      client.checkWritability().pipe(Effect.catchTag("PreconditionFailed", ({ message }) => Effect.succeed(message)))
    )
    expect(await Effect.runPromise(Effect.provide(program, FetchHttpClient.layer))).toBe(
      "invalid compute status: empty"
    )
  })

  it("takes a bare spec or a whole document", async () => {
    await using node = await start()
    const client = connect(node)
    for (const document of [
      { ...spec, mode: "Primary" as const, tenant_id: null },
      { spec: { ...spec, mode: "Primary" as const, tenant_id: null }, compute_ctl_config: { jwks: { keys: [] } } }
    ]) {
      expect(await rejection(client.configure(document))).toEqual(
        new Errors.BadRequest({ message: "tenant id should be provided" })
      )
    }
    const misspelt: Parameters<typeof client.configure>[0] = JSON.parse(
      JSON.stringify({ ...configuration, spec: { ...spec, format_version: "one" } })
    )
    expect(await rejection(client.configure(misspelt))).toMatchObject({
      _tag: "UnprocessableEntity",
      message: expect.stringContaining("spec.format_version")
    })
  })

  it("is terminated in the mode that was asked for, and has its LSN as text", async () => {
    await using node = await start()
    const client = connect(node)
    expect(await client.terminate({ mode: "immediate" })).toEqual({ lsn: null })
    expect((await client.status()).status).toBe("termination_pending_immediate")
  })

  it("is reached on its internal server", async () => {
    await using node = await start({ events: ["startup_begins", "startup_succeeded"] })
    const client = connect(node)
    expect(await client.internal.refreshConfiguration()).toBeUndefined()
    expect((await client.status()).status).toBe("refresh_configuration_pending")
    expect(await rejection(client.internal.download({ filename: "a/b c.tar.zst", is_library: true }))).toBeInstanceOf(
      Errors.PreconditionFailed
    )
    const external = ComputeClient.connect({ url: urls(node).url, token: ownToken })
    expect(await rejection(external.internal.refreshConfiguration())).toMatchObject({
      _tag: "Unreachable",
      message: expect.stringContaining("refreshConfiguration belongs to the internal server")
    })
  })

  it("refuses a stranger by the class of the error", async () => {
    await using node = await start()
    const stranger = ComputeClient.connect({ url: urls(node).url })
    expect(await rejection(stranger.status())).toBeInstanceOf(Errors.BadRequest)
    expect(await rejection(ComputeClient.connect({ ...urls(node), token: "no.good.token" }).status())).toBeInstanceOf(
      Errors.Unauthorized
    )
    expect(await stranger.prometheus()).toContain("compute_ctl_up")
  })
})

describe("errors", () => {
  const classes = Object.values(Errors)

  it.each(classes.map((one) => [one.status, one] as const))(
    "%i is its class, wherever it comes from",
    async (code, one) => {
      await using server = await scripted((response) => json(response, code, { error: "because" }))
      const client = ComputeClient.connect({ url: server.url, internalUrl: server.url, retries: 0 })
      for (const call of [
        () => client.status(),
        () => client.terminate(),
        () => client.schema({ database: "a" }),
        () => client.internal.refreshConfiguration()
      ]) {
        const error = await rejection(call())
        expect(error).toBeInstanceOf(one)
        expect(error).toBeInstanceOf(Error)
        expect(error).toMatchObject({ _tag: one.identifier, message: "because" })
      }
      expect(statusOf(new one({ message: "" }))).toBe(code)
    }
  )

  it("are of the same kind in effects", async () => {
    await using server = await scripted((response) => json(response, 405, { error: "because" }))
    const effect = Effect.flatMap(ComputeClient.make({ url: server.url }), (client) => Effect.flip(client.status()))
    expect(await Effect.runPromise(Effect.provide(effect, FetchHttpClient.layer))).toEqual(
      new Errors.MethodNotAllowed({ message: "because" })
    )
  })

  it("say what a stranger between client and node answered", async () => {
    const answers: ReadonlyArray<readonly [number, string, string, object]> = [
      [418, "text/plain", "I am a teapot\n", { _tag: "UnexpectedAnswer", status: 418, message: "I am a teapot" }],
      [404, "text/html", "", { _tag: "NotFound", message: "HTTP status 404 without a message" }],
      [200, "text/html", "<html>", { _tag: "UnexpectedAnswer", status: 200 }],
      [200, "application/json", "{", { _tag: "UnexpectedAnswer", status: 200 }],
      [
        200,
        "application/json",
        JSON.stringify({ ...status("running"), tenant: 7 }),
        { _tag: "UnexpectedAnswer", message: "the answer is of another shape: tenant: Expected string | null" }
      ]
    ]
    for (const [code, type, body, expected] of answers) {
      await using server = await scripted((response) => response.writeHead(code, { "content-type": type }).end(body))
      expect(await rejection(ComputeClient.connect({ url: server.url }).status())).toMatchObject(expected)
    }
    expect(statusOf(new UnexpectedAnswer({ status: 418, message: "" }))).toBe(418)
  })

  it("keep members that this version does not know", async () => {
    const answer = { ...status("running"), added_later: 1 }
    await using server = await scripted((response) => json(response, 200, answer))
    expect(await ComputeClient.connect({ url: server.url }).status()).toEqual(answer)
  })

  it("tell a node that nobody reaches, with the address", async () => {
    const url = await deserted()
    const error = await rejection(ComputeClient.connect({ url, retries: 0 }).status())
    expect(error).toBeInstanceOf(Unreachable)
    expect(error).toMatchObject({ url, message: expect.stringMatching(/^http:\S+ cannot be reached: .*ECONNREFUSED/u) })
    expect(await rejection(ComputeClient.connect({ url: "nonsense", retries: 0 }).status())).toBeInstanceOf(Unreachable)
    await using server = await scripted((response) => response.writeHead(200, { "content-length": 100 }).write("{"))
    const silent = ComputeClient.connect({ url: server.url, retries: 0, timeout: 50 })
    expect(await rejection(silent.status())).toMatchObject({
      _tag: "Unreachable",
      message: `${server.url} did not answer in time`
    })
  })

  it("refuse a path that would be another route", async () => {
    const client = ComputeClient.connect({ url: "http://127.0.0.1:1", internalUrl: "http://127.0.0.1:1" })
    for (const filename of ["", "..", "a/../../grants", "a//b"]) {
      expect(await rejection(client.internal.download({ filename }))).toBeInstanceOf(Errors.BadRequest)
    }
  })
})

describe("repetition", () => {
  const unavailable = async (times: number) =>
    scripted((response, turn) => {
      if (turn <= times) json(response, 503, { error: "shutting down" })
      else json(response, 200, status("running"))
    })

  it("asks again after a 503, and gives up in the end", async () => {
    await using twice = await unavailable(2)
    expect((await ComputeClient.connect({ url: twice.url }).status()).status).toBe("running")
    expect(twice.seen).toHaveLength(3)
    await using always = await unavailable(99)
    expect(await rejection(ComputeClient.connect({ url: always.url, retries: 2 }).status())).toBeInstanceOf(
      Errors.Unavailable
    )
    expect(always.seen).toHaveLength(3)
  })

  it("asks again after a broken connection", async () => {
    await using server = await scripted((response, turn) => {
      if (turn === 1) response.destroy()
      else json(response, 200, status("running"))
    })
    expect((await ComputeClient.connect({ url: server.url }).status()).status).toBe("running")
    expect(server.seen).toEqual(["GET /status", "GET /status"])
  })

  it("does not repeat what may have been done, nor what was refused", async () => {
    await using server = await unavailable(99)
    const client = ComputeClient.connect({ url: server.url, internalUrl: server.url })
    for (const call of [
      () => client.terminate(),
      () => client.configure({ ...spec, mode: "Primary" }),
      () => client.offload()
    ]) {
      expect(await rejection(call())).toBeInstanceOf(Errors.Unavailable)
    }
    expect(server.seen).toEqual(["POST /terminate", "POST /configure", "POST /lfc/offload"])
    await using refusing = await scripted((response) => json(response, 500, { error: "no" }))
    expect(await rejection(ComputeClient.connect({ url: refusing.url }).status())).toBeInstanceOf(Errors.InternalError)
    expect(refusing.seen).toHaveLength(1)
  })

  it("takes the 503 of a probe for its answer", async () => {
    await using server = await unavailable(99)
    const client = ComputeClient.connect({ url: server.url })
    for (const probe of [() => client.readyz(), () => client.healthz(), () => client.liveness()]) {
      expect(await rejection(probe())).toBeInstanceOf(Errors.Unavailable)
    }
    expect(server.seen).toEqual(["GET /readyz", "GET /healthz", "GET /hadron_liveness_probe"])
  })

  it("repeats those actions that do nothing more the second time", async () => {
    await using server = await scripted((response, turn) => {
      if (turn === 1) json(response, 503, { error: "shutting down" })
      else response.writeHead(200).end()
    })
    await ComputeClient.connect({ url: server.url, internalUrl: server.url }).internal.refreshConfiguration()
    expect(server.seen).toHaveLength(2)
  })
})

describe("streams", () => {
  const dump = `CREATE TABLE "ä" ();\n`.repeat(20_000)
  const dumping = () =>
    scripted((response) => response.writeHead(200, { "content-type": "application/json" }).end(dump))

  it("come as text or in pieces", async () => {
    await using server = await dumping()
    const client = ComputeClient.connect({ url: server.url })
    expect(await (await client.schema({ database: "a&b=c" })).text()).toBe(dump)
    expect(server.seen).toEqual(["GET /database_schema?database=a%26b%3Dc"])
    const pieces: Array<Uint8Array> = []
    for await (const piece of await client.schema({ database: "a" })) pieces.push(piece)
    expect(pieces.length).toBeGreaterThan(1)
    expect(Buffer.concat(pieces).toString()).toBe(dump)
  })

  it("are streams in effects", async () => {
    await using server = await dumping()
    const text = Effect.gen(function* () {
      const client = yield* ComputeClient.make({ url: server.url })
      return yield* Stream.mkString(Stream.decodeText(yield* client.schema({ database: "a" })))
    })
    expect(await Effect.runPromise(Effect.provide(text, FetchHttpClient.layer))).toBe(dump)
  })

  it("that break off say so", async () => {
    await using server = await scripted((response) => {
      response.writeHead(200, { "content-type": "application/json" })
      response.write("half", () => response.destroy())
    })
    const answer = await ComputeClient.connect({ url: server.url }).schema({ database: "a" })
    expect(await rejection(answer.text())).toMatchObject({
      _tag: "Unreachable",
      message: expect.stringContaining("broke off its answer")
    })
  })

  it("that nobody reads to their end free the connection", async () => {
    const closed = Promise.withResolvers<void>()
    await using server = await scripted((response) => {
      response.once("close", () => closed.resolve())
      response.writeHead(200, { "content-type": "application/json" })
      response.write("first")
    })
    for await (const piece of await ComputeClient.connect({ url: server.url }).schema({ database: "a" })) {
      expect(Buffer.from(piece).toString()).toBe("first")
      break
    }
    await closed.promise
  })
})

describe("an AbortSignal", () => {
  const hanging = () =>
    scripted((response) => void response.writeHead(200, { "content-type": "application/json" }).write(" "))

  it("ends a call with its reason, and closes the connection", async () => {
    const closed = Promise.withResolvers<void>()
    const arrived = Promise.withResolvers<void>()
    await using server = await scripted((response) => {
      response.once("close", () => closed.resolve())
      arrived.resolve()
    })
    const controller = new AbortController()
    const asked = rejection(ComputeClient.connect({ url: server.url }).status({ signal: controller.signal }))
    await arrived.promise
    controller.abort()
    expect(await asked).toMatchObject({ name: "AbortError" })
    await closed.promise
  })

  it("that is aborted already lets nothing begin", async () => {
    await using server = await hanging()
    const reason = new Error("enough")
    const signal = AbortSignal.abort(reason)
    const client = ComputeClient.connect({ url: server.url })
    expect(await rejection(client.terminate({ mode: "fast" }, { signal }))).toBe(reason)
    expect(await rejection(client.waitFor("running", { signal }))).toBe(reason)
    expect(server.seen).toEqual([])
  })

  it("ends a stream in the middle", async () => {
    await using server = await hanging()
    const controller = new AbortController()
    const client = ComputeClient.connect({ url: server.url })
    const stream = await client.schema({ database: "a" }, { signal: controller.signal })
    const read = rejection(stream.text())
    controller.abort(new Error("enough"))
    expect(await read).toMatchObject({ message: "enough" })
  })
})
