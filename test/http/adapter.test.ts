import * as Http from "node:http"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Stream from "effect/Stream"
import { type App, makeHandler } from "../../src/http/adapter.ts"
import { listen } from "../../src/http/listen.ts"
import { raw, request } from "./harness.ts"

/** Serves one effect for as long as `use` takes. */
const serving = (app: App, use: (port: number) => Promise<unknown>, patience?: "100 millis"): Promise<void> =>
  Effect.gen(function* () {
    const [address] = yield* listen({
      name: "test",
      bind: { _tag: "Host", host: "127.0.0.1" },
      port: 0,
      drain: "1 second",
      handler: (scope) => makeHandler(app, scope, patience)
    })
    yield* Effect.promise(() => use(address?.port ?? 0))
  }).pipe(Effect.scoped, Effect.runPromise)

const chunk = new Uint8Array(64 * 1024).fill(97)

describe("answers as streams", () => {
  it("arrive whole, and are read no faster than the client takes them", async () => {
    let made = 0
    const body = Stream.fromIterable(Array.from({ length: 500 }, () => chunk)).pipe(
      Stream.rechunk(1),
      Stream.tap(() => Effect.sync(() => made++))
    )
    await serving(Effect.succeed(HttpServerResponse.stream(body)), async (port) => {
      const response = await new Promise<Http.IncomingMessage>((resolve) => {
        Http.get({ port, agent: false }, resolve)
      })
      await new Promise((resolve) => setTimeout(resolve, 300))
      expect(made).toBeLessThan(400)
      let bytes = 0
      for await (const part of response) bytes += part.length
      expect(bytes).toBe(500 * chunk.length)
      expect(made).toBe(500)
    })
  })

  it("that fail in the middle break the connection", async () => {
    const body = Stream.concat(Stream.succeed(chunk), Stream.fail("disk full"))
    await serving(Effect.succeed(HttpServerResponse.stream(body)), async (port) => {
      await expect(request(port, "GET /")).rejects.toThrow()
    })
  })

  it("are given up when the client leaves, with all that they hold", async () => {
    let released = false
    const held = Effect.acquireRelease(Effect.void, () =>
      Effect.sync(() => {
        released = true
      })
    )
    const app = Effect.as(held, HttpServerResponse.stream(Stream.concat(Stream.succeed(chunk), Stream.never)))
    await serving(app, async (port) => {
      const patience = new AbortController()
      const asked = request(port, "GET /", { signal: patience.signal })
      setTimeout(() => patience.abort(), 50)
      await expect(asked).rejects.toThrow()
      await expect.poll(() => released).toBe(true)
    })
  })

  it("are given up when the client takes nothing of them", async () => {
    const released = Promise.withResolvers<void>()
    const held = Effect.acquireRelease(Effect.void, () => Effect.sync(() => released.resolve()))
    const endless = HttpServerResponse.stream(Stream.forever(Stream.succeed(chunk)))
    await serving(
      Effect.as(held, endless),
      async (port) => {
        const response = await new Promise<Http.IncomingMessage>((resolve) => {
          Http.get({ port, agent: false }, resolve)
        })
        const broken = new Promise((resolve) => response.once("error", resolve))
        await released.promise
        response.resume()
        await broken
      },
      "100 millis"
    )
  })

  it("are not begun for HEAD", async () => {
    let begun = false
    const body = Stream.suspend(() => {
      begun = true
      return Stream.succeed(chunk)
    })
    await serving(Effect.succeed(HttpServerResponse.stream(body)), async (port) => {
      expect((await request(port, "HEAD /")).status).toBe(200)
      expect(begun).toBe(false)
    })
  })
})

describe("requests", () => {
  it("show their method, target and headers", async () => {
    const app = Effect.map(HttpServerRequest.HttpServerRequest, ({ cookies, headers, method, originalUrl, url }) =>
      HttpServerResponse.jsonUnsafe({ cookies, custom: headers["x-custom"], method, originalUrl, url })
    )
    await serving(app, async (port) => {
      const answer = await raw(
        port,
        "PURGE http://x:1/a/b?c=d HTTP/1.1\r\nX-Custom: 1\r\ncookie: e=f\r\nconnection: close\r\n\r\n"
      )
      expect(JSON.parse(answer.split("\r\n\r\n")[1] ?? "")).toEqual({
        cookies: { e: "f" },
        custom: "1",
        method: "PURGE",
        originalUrl: "http://x:1/a/b?c=d",
        url: "/a/b?c=d"
      })
    })
  })

  it("whose answer cannot be written end", async () => {
    const app = Effect.succeed(HttpServerResponse.text("x", { headers: { "x-bad": "a\nb" } }))
    await serving(app, async (port) => {
      await expect(request(port, "GET /")).rejects.toThrow()
    })
  })
})
