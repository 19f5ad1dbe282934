import { createServer } from "node:http"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as ControlPlane from "../../src/local/ControlPlane.ts"

const document: ControlPlane.Document = {
  spec: { format_version: 1, suspend_timeout_seconds: -1, cluster: { roles: [], databases: [] } },
  compute_ctl_config: { jwks: { keys: [] } }
}

const make = ControlPlane.make({ token: Redacted.make("secret") })

const get = (url: string, id: string, token = "secret", method = "GET") =>
  Effect.promise(async () => {
    const response = await fetch(`${url}/compute/api/v2/computes/${id}/spec`, {
      method,
      headers: { authorization: `Bearer ${token}` }
    })
    return { status: response.status, body: await response.text() }
  })

describe("ControlPlane", () => {
  it.live("the spec of a compute is served to who has the token", () =>
    Effect.gen(function* () {
      const plane = yield* make
      plane.attach("one", document)
      plane.empty("two", [])
      const attached = yield* get(plane.url, "one")
      assert.strictEqual(attached.status, 200)
      assert.deepStrictEqual(JSON.parse(attached.body), { status: "attached", ...document })
      assert.deepStrictEqual(JSON.parse((yield* get(plane.url, "two")).body), {
        status: "empty",
        spec: null,
        compute_ctl_config: { jwks: { keys: [] } }
      })
      assert.strictEqual((yield* get(plane.url, "one", "wrong")).status, 401)
      assert.strictEqual((yield* get(plane.url, "three")).status, 404)
      assert.strictEqual((yield* get(plane.url, "one", "secret", "POST")).status, 405)
      plane.remove("one")
      assert.strictEqual((yield* get(plane.url, "one")).status, 404)
      plane.answer("one", 503, "later")
      assert.deepStrictEqual(yield* get(plane.url, "one"), { status: 503, body: "later" })
      const [first] = plane.requests.all()
      assert.deepInclude(first, { method: "GET", path: "/compute/api/v2/computes/one/spec", status: 200 })
      assert.strictEqual(first?.headers.authorization, "Bearer secret")
    }).pipe(Effect.scoped)
  )

  it.live("faults: some bad answers, then good ones; broken connections", () =>
    Effect.gen(function* () {
      const plane = yield* make
      plane.attach("one", document)
      plane.faults.add({ at: "request", do: "answer", status: 502, times: 2 })
      const statuses = yield* Effect.forEach([1, 2, 3], () => Effect.map(get(plane.url, "one"), ({ status }) => status))
      assert.deepStrictEqual(statuses, [502, 502, 200])
      for (const action of ["close", "reset", "garbage"] as const) {
        plane.faults.add({ at: "request", do: action })
        assert.isTrue((yield* Effect.exit(get(plane.url, "one")))._tag === "Failure", action)
      }
      plane.faults.add({ at: "request", do: "hang" })
      const left = Effect.promise(() => fetch(plane.url, { signal: AbortSignal.timeout(50) }).catch(() => "left"))
      assert.strictEqual(yield* left, "left")
      yield* plane.stop
      assert.isTrue((yield* Effect.exit(get(plane.url, "one")))._tag === "Failure")
      yield* plane.start
      assert.strictEqual((yield* get(plane.url, "one")).status, 200)
    }).pipe(Effect.scoped)
  )

  it.live("push sends what is attached to a compute and returns its answer", () =>
    Effect.gen(function* () {
      const plane = yield* make
      const seen: Array<unknown> = []
      const compute = yield* Effect.acquireRelease(
        Effect.callback<{ url: string; close: () => void }>((resume) => {
          const server = createServer((request, response) => {
            let body = ""
            request.on("data", (chunk) => {
              body += String(chunk)
            })
            request.on("end", () => {
              seen.push([request.method, request.url, request.headers.authorization, JSON.parse(body)])
              response.writeHead(412).end('{"error":"invalid compute status: init"}')
            })
          })
          server.listen(0, "127.0.0.1", () => {
            const address = server.address()
            const port = address !== null && typeof address === "object" ? address.port : 0
            const close = (): void => {
              server.close()
              server.closeAllConnections()
            }
            resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, close }))
          })
        }),
        ({ close }) => Effect.sync(close)
      )
      const target = { computeId: "one", url: compute.url, token: Redacted.make("jwt") }
      assert.match((yield* Effect.flip(plane.push(target))).message, /no document is attached to compute one$/u)
      const answer = yield* plane.push({ ...target, document })
      assert.deepStrictEqual(answer, { status: 412, body: '{"error":"invalid compute status: init"}' })
      assert.deepStrictEqual(seen, [["POST", "/configure", "Bearer jwt", document]])
      assert.deepStrictEqual(plane.document("one"), document)
      const nobody = yield* Effect.flip(plane.push({ ...target, url: "http://127.0.0.1:1" }))
      assert.strictEqual(nobody.message, "the compute at http://127.0.0.1:1 could not be reached")
    }).pipe(Effect.scoped)
  )
})
