/** Where the document comes from: a control plane, or `/configure` on a node that started empty. */
import * as fs from "node:fs/promises"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { makeBed, type StartOptions } from "../support/bed.ts"
import { processesOf } from "../support/leftovers.ts"
import { failBasebackup, retries } from "../support/storage.ts"

const requestsCounted = (status: string, count: number): string =>
  `compute_ctl_cplane_requests_total{http_status="${status}",rpc="GetConfig"} ${count}`

/** Lakebase mode without keys: the external server wants no token. */
const lakebase: StartOptions = {
  source: "controlPlaneAsItIs",
  args: { "--lakebase-mode": "true" },
  env: { INSTANCE_ID: "instance-1" }
}

describe("a control plane", () => {
  it.live("S-049 is asked once, with the token, and what it says is started", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      bed.storage.controlPlane.faults.add({ at: "request", do: "delay", millis: 100 })
      const node = yield* bed.run({ source: "controlPlane" })
      const requests = bed.storage.controlPlane.requests.all()
      expect(requests).toMatchObject([
        { method: "GET", path: `/compute/api/v2/computes/${bed.computeId()}/spec`, status: 200 }
      ])
      expect(requests[0]?.headers.authorization).toMatch(/^Bearer \S+$/u)
      const { text } = yield* node.external("GET /metrics")
      expect(text).toContain(requestsCounted("200 OK", 1))
      yield* node.stop
    })
  )

  it.live("S-092 a node of lakebase mode shows what it is attached to, any other one does not", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run({ ...lakebase, source: "controlPlane" })
      const samples = (text: string) => text.match(/^pg_cctl_attached.*$/gmu)
      expect(samples((yield* node.external("GET /metrics")).text)).toEqual([
        `pg_cctl_attached{pg_compute_id="${bed.computeId()}",pg_instance_id="instance-1",tenant_id="${bed.storage.tenantId}",timeline_id="${bed.storage.timelineId}"} 1`
      ])
      yield* node.stop
      const plain = yield* bed.run({ source: "controlPlane", env: { INSTANCE_ID: "instance-1" } })
      expect(samples((yield* plain.external("GET /metrics")).text)).toBeNull()
      yield* plain.stop
    })
  )

  it.live("S2 that is overloaded, breaks off or sends garbage is asked again", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { faults, requests } = bed.storage.controlPlane
      for (const fault of [
        { do: "answer", status: 503 },
        { do: "answer", status: 429 },
        { do: "reset" },
        { do: "garbage" },
        { do: "answer", status: 200, body: "<html>" }
      ] as const) {
        faults.add({ at: "request", ...fault })
      }
      const node = yield* bed.run({ source: "controlPlane" })
      expect(requests.all()).toHaveLength(6)
      const { text } = yield* node.external("GET /metrics")
      for (const line of [
        requestsCounted("503 Service Unavailable", 1),
        requestsCounted("429 Too Many Requests", 1),
        requestsCounted("unknown", 2),
        requestsCounted("200 OK", 2)
      ]) {
        expect(text).toContain(line)
      }
      yield* node.stop
    })
  )

  it.live("S2 that refuses ends the start at once, with its answer in the message", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { controlPlane } = bed.storage
      const cases: ReadonlyArray<readonly [StartOptions, string]> = [
        [{ source: "controlPlaneAsItIs" }, "404 Not Found"],
        [{ source: "controlPlane", env: { NEON_CONTROL_PLANE_TOKEN: "wrong" } }, "401 Unauthorized"],
        [{ source: "controlPlane", env: { NEON_CONTROL_PLANE_TOKEN: "" } }, "401 Unauthorized"]
      ]
      for (const [options, text] of cases) {
        controlPlane.requests.clear()
        const node = yield* bed.start(options)
        expect((yield* node.exit).code).toBe(1)
        expect(node.stderr()).toContain(`Error: unexpected control plane response status code: ${text}`)
        expect(controlPlane.requests.all()).toHaveLength(1)
        expect(node.stderr()).not.toContain("HTTP server listening")
      }
      controlPlane.answer(
        bed.computeId(),
        200,
        JSON.stringify({ status: "attached", spec: null, compute_ctl_config: { jwks: { keys: [] } } })
      )
      const node = yield* bed.start({ source: "controlPlaneAsItIs" })
      expect((yield* node.exit).code).toBe(1)
      expect(node.stderr()).toContain("Error: compute is attached, but spec is empty")
    })
  )

  it.live("a signal ends a node that still waits for its control plane", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      bed.storage.controlPlane.faults.add({ at: "request", do: "hang", times: "forever" })
      const node = yield* bed.start({ source: "controlPlane" })
      yield* bed.storage.controlPlane.requests.until(() => true)
      yield* node.signal("SIGTERM")
      const { code, millis } = yield* node.exit
      expect(code).toBe(0)
      expect(millis).toBeLessThan(5000)
    })
  )
})

describe("an empty node", () => {
  it.live("S-050 says so, and runs no Postgres", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      bed.storage.controlPlane.empty(bed.computeId(), [])
      const node = yield* bed.start(lakebase)
      const status = yield* node.waitFor("empty")
      expect(status).toMatchObject({ tenant: null, timeline: null, error: null })
      const { text } = yield* node.external("GET /metrics", { headers: {} })
      expect(text).toContain('compute_ctl_up{build_tag="latest",status="empty"} 1')
      const processes = yield* Effect.promise(() => processesOf(bed.directory))
      expect(processes.map(({ pid }) => pid)).toEqual([node.pid])
      expect(yield* Effect.promise(() => fs.readdir(bed.directory))).not.toContain("pgdata")
    })
  )

  it.live("S-051 in lakebase mode answers /terminate with an empty body and ends with 0", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      bed.storage.controlPlane.empty(bed.computeId(), [])
      const node = yield* bed.start(lakebase)
      yield* node.waitFor("empty")
      const answer = yield* node.external("POST /terminate", { headers: {} })
      expect([answer.status, answer.text]).toEqual([200, ""])
      expect((yield* node.exit).code).toBe(0)
    })
  )

  it.live("C7 answers /terminate with a null LSN and ends with 0, without lingering", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start({ document: ({ spec: _, ...rest }) => rest })
      yield* node.waitFor("empty")
      const began = performance.now()
      const answer = yield* node.terminate()
      expect([answer.status, answer.json]).toEqual([200, { lsn: null }])
      expect((yield* node.exit).code).toBe(0)
      expect(performance.now() - began).toBeLessThan(3000)
    })
  )

  it.live("ends with 0 on a signal", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start({ document: ({ spec: _, ...rest }) => rest })
      yield* node.waitFor("empty")
      yield* node.signal("SIGTERM")
      expect((yield* node.exit).code).toBe(0)
    })
  )

  it.live("S-052 is brought up by /configure, which answers when Postgres runs; the wait counts by itself", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      bed.storage.controlPlane.empty(bed.computeId(), [bed.storage.keys.computeJwk])
      const node = yield* bed.start({ source: "controlPlaneAsItIs" })
      const before = yield* node.waitFor("empty")
      yield* Effect.sleep("1 second")
      const asked = Date.now()
      const answer = yield* node.external("POST /configure", { body: yield* bed.document() })
      expect(answer.status).toBe(200)
      expect(answer.json).toMatchObject({
        status: "running",
        tenant: bed.storage.tenantId,
        timeline: bed.storage.timelineId,
        error: null
      })
      expect(yield* node.value("SELECT 1")).toBe("1")
      const { start_time: startTime } = yield* node.status
      expect(startTime > before.start_time).toBe(true)
      expect(Math.abs(Date.parse(startTime) - asked)).toBeLessThan(900)
      const { json } = yield* node.external("GET /metrics.json")
      expect(json).toMatchObject({
        wait_for_spec_ms: expect.toSatisfy((millis) => millis >= 1000),
        total_startup_ms: expect.toSatisfy((millis) => millis > 0 && millis < Date.now() - asked + 100)
      })
      yield* node.stop
    })
  )

  it.live("C6 tells the caller of /configure why the start failed, and shows it on /status", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start({
        document: ({ spec: _, ...rest }) => rest,
        env: retries(0)
      })
      yield* node.waitFor("empty")
      failBasebackup(bed, "no such luck")
      const answer = yield* node.external("POST /configure", { body: yield* bed.document() })
      expect(answer.status).toBe(500)
      expect(answer.json).toMatchObject({
        error: expect.stringMatching(/^compute configuration failed: ".*no such luck/u)
      })
      expect(yield* node.status).toMatchObject({ status: "failed", error: expect.stringContaining("no such luck") })
      yield* node.terminate("immediate")
      yield* node.exit
    })
  )

  it.live("C6 fails a /configure that waits when the node is ended meanwhile", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start({ document: ({ spec: _, ...rest }) => rest })
      yield* node.waitFor("empty")
      bed.storage.pageserver.faults.add({ at: "command", do: "hang", times: "forever" })
      const configure = yield* Effect.forkScoped(node.external("POST /configure", { body: yield* bed.document() }))
      yield* bed.storage.pageserver.commands.until(() => true)
      const answer = yield* node.terminate("immediate")
      expect([answer.status, answer.json]).toEqual([200, { lsn: null }])
      const failed = yield* Fiber.join(configure)
      expect(failed.status).toBe(500)
      expect(failed.json).toMatchObject({ error: expect.stringContaining("terminated") })
      expect((yield* node.exit).code).toBe(0)
    })
  )

  it.live("a client that leaves during /configure does not stop the start", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start({ document: ({ spec: _, ...rest }) => rest })
      yield* node.waitFor("empty")
      bed.storage.pageserver.faults.add({ at: "command", do: "delay", millis: 500 })
      const configure = yield* Effect.forkScoped(node.external("POST /configure", { body: yield* bed.document() }))
      yield* bed.storage.pageserver.commands.until(() => true)
      yield* Fiber.interrupt(configure)
      expect(yield* node.status).toMatchObject({ status: "init" })
      yield* node.waitFor("running")
      yield* node.stop
    })
  )

  it.live("refuses a document that cannot be resolved, and stays empty", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start({ document: ({ spec: _, ...rest }) => rest })
      yield* node.waitFor("empty")
      for (const [body, status] of [
        [yield* bed.document({ spec: { tenant_id: undefined } }), 400],
        [yield* bed.document({ spec: { mode: "Secondary" } }), 422],
        ["{", 400],
        [{ spec: (yield* bed.document()).spec }, 422]
      ] as const) {
        const answer = yield* node.external("POST /configure", { body })
        expect(answer.status, answer.text).toBe(status)
        expect(answer.json).toEqual({ error: expect.any(String) })
      }
      expect(yield* node.status).toMatchObject({ status: "empty", tenant: null })
    })
  )
})
