import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as ComputeStatus from "../../src/domain/ComputeStatus.ts"
import { localAdmin } from "../../src/domain/ConnString.ts"
import * as Loops from "../../src/layers/Loops.ts"
import * as PgServer from "../support/pgServer.ts"
import { eventsTo, parsedSpec, request, start } from "./harness.ts"

/** Accepts every session; counts them. */
const accepting = PgServer.listen(async ({ send }) => send(PgServer.trusted))

const target = (port: number) => localAdmin(port)

const ask = (port: number, path: string) =>
  Effect.map(
    Effect.promise(() => request(port, `GET ${path}`)),
    ({ json, status }) => [status, json] as const
  )

const node = (options: Parameters<typeof start>[0]) =>
  Effect.acquireRelease(
    Effect.promise(() => start(options)),
    (started) => Effect.promise(() => started.close())
  )

describe("GET /healthz", () => {
  it.live("shows what each loop does, without a token", () =>
    Effect.gen(function* () {
      const loops = Loops.make()
      const { externalPort } = yield* node({ loops })
      const over = yield* Deferred.make<void>()
      yield* Effect.forkScoped(loops.run("life", Deferred.await(over)))
      const busy = Effect.andThen(loops.working("worker", "configure", "1 minute"), Deferred.await(over))
      yield* Effect.forkScoped(loops.run("worker", busy))
      yield* Effect.sleep("10 millis")
      const row = { for_ms: expect.any(Number) }
      expect(yield* ask(externalPort, "/healthz")).toEqual([
        200,
        {
          loops: [
            { ...row, name: "life", work: null },
            { ...row, name: "worker", work: "configure" }
          ]
        }
      ])
      yield* loops.waiting("worker")
      expect((yield* ask(externalPort, "/healthz"))[1]).toMatchObject({ loops: [{}, { name: "worker", work: null }] })
      yield* Deferred.succeed(over, undefined)
      yield* Effect.sleep("10 millis")
      expect(yield* ask(externalPort, "/healthz")).toEqual([200, { loops: [] }])
    })
  )

  it.live("is 503 when a loop works at something for longer than it may, and names it", () =>
    Effect.gen(function* () {
      const loops = Loops.make()
      const { externalPort } = yield* node({ loops })
      const stuck = Effect.andThen(loops.working("worker", "configure", "5 millis"), Effect.never)
      yield* Effect.forkScoped(loops.run("worker", stuck))
      yield* Effect.sleep("30 millis")
      expect(yield* ask(externalPort, "/healthz")).toEqual([
        503,
        { error: "loop worker is stuck in: configure, since 0 s" }
      ])
    })
  )

  it.live("is 503 when a loop has broken, and names it without its error", () =>
    Effect.gen(function* () {
      const loops = Loops.make()
      const { externalPort } = yield* node({ loops })
      yield* Effect.forkScoped(loops.run("life", Effect.never))
      yield* Effect.exit(loops.run("signals", Effect.die(new Error("secret"))))
      yield* Effect.exit(loops.run("status", Effect.interrupt))
      expect(yield* ask(externalPort, "/healthz")).toEqual([503, { error: "loop signals has ended" }])
    })
  )
})

describe("GET /readyz", () => {
  it.live.each(ComputeStatus.ComputeStatus.literals)("in status %s", (status) =>
    Effect.gen(function* () {
      const postgres = yield* accepting
      const { externalPort } = yield* node({
        events: eventsTo[status],
        live: parsedSpec(),
        params: { postgres: target(postgres.port) }
      })
      const serving = ["running", "configuration", "refresh_configuration"].some((name) => status.startsWith(name))
      expect(yield* ask(externalPort, "/readyz")).toEqual(
        serving ? [200, { status }] : [503, { error: `not ready: compute status is ${ComputeStatus.display(status)}` }]
      )
    })
  )

  it.live("is 503 before a spec is live, whatever the status says", () =>
    Effect.gen(function* () {
      const postgres = yield* accepting
      const { externalPort } = yield* node({
        events: eventsTo.refresh_configuration,
        params: { postgres: target(postgres.port) }
      })
      expect((yield* ask(externalPort, "/readyz"))[0]).toBe(503)
      expect(postgres.seen()).toBe(0)
    })
  )

  it.live("a thousand questions are one session with Postgres", () =>
    Effect.gen(function* () {
      const postgres = yield* accepting
      const { externalPort } = yield* node({
        events: eventsTo.running,
        live: parsedSpec(),
        params: { postgres: target(postgres.port) }
      })
      const asked = yield* Effect.forEach(Array.from({ length: 1000 }), () => ask(externalPort, "/readyz"), {
        concurrency: 50
      })
      expect(asked.filter(([status]) => status !== 200)).toEqual([])
      // One for each second that this takes.
      expect(postgres.seen()).toBeLessThan(20)
      yield* postgres.allClosed
    })
  )

  it.live("is 503 where Postgres says nothing, and the session is given up", () =>
    Effect.gen(function* () {
      const postgres = yield* PgServer.listen(async ({ closed }) => closed)
      const { externalPort } = yield* node({
        events: eventsTo.running,
        live: parsedSpec(),
        params: { postgres: target(postgres.port) }
      })
      expect(yield* ask(externalPort, "/readyz")).toEqual([
        503,
        { error: `not ready: 127.0.0.1:${postgres.port} was not ready within 3s` }
      ])
      yield* postgres.allClosed
    })
  )

  it.live("is 503 at once when Postgres has ended by itself, though the status stays", () =>
    Effect.gen(function* () {
      const postgres = yield* accepting
      const started = yield* node({
        events: eventsTo.running,
        live: parsedSpec(),
        params: { postgres: target(postgres.port) }
      })
      expect((yield* ask(started.externalPort, "/readyz"))[0]).toBe(200)
      yield* started.node.update((state) => ({ ...state, error: "Postgres exited with code exit status: 1" }))
      expect(yield* ask(started.externalPort, "/readyz")).toEqual([503, { error: "not ready: Postgres has ended" }])
    })
  )
})

describe("GET /hadron_liveness_probe", () => {
  const refusing = (code: string) =>
    PgServer.listen(async ({ end, send }) => {
      await send(PgServer.errorResponse("no", code, "FATAL"))
      end()
    })

  it.live("is ok where Postgres accepts a session, and where it refuses this one", () =>
    Effect.gen(function* () {
      for (const server of [yield* accepting, yield* refusing("53300"), yield* refusing("28000")]) {
        const started = yield* node({ params: { postgres: target(server.port) } })
        const reply = yield* Effect.promise(() => started.external("GET /hadron_liveness_probe"))
        expect([reply.status, reply.json]).toEqual([200, "ok"])
      }
    })
  )

  it.live.each(["57P01", "57P03"])("is 503 where Postgres says %s: it starts, or stops", (code) =>
    Effect.gen(function* () {
      const server = yield* refusing(code)
      const started = yield* node({ params: { postgres: target(server.port) } })
      const reply = yield* Effect.promise(() => started.external("GET /hadron_liveness_probe"))
      expect([reply.status, reply.json]).toEqual([503, { error: "no" }])
    })
  )
})
