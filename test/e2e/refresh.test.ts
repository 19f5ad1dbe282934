/** `/refresh_configuration`: what a node that runs does about a configuration that has changed, or cannot be had. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { jwkOf, newKey, token } from "../http/harness.ts"
import { makeBed, type StartOptions } from "../support/bed.ts"
import { type Compute, eventually, isAlive } from "../support/compute.ts"
import { catalog, configure, confVersion, onPageserver, refresh, times, urlOf } from "../support/reconfigure.ts"
import { syncsAtEnd } from "../support/storage.ts"

const pageserverOf = "SHOW neon.pageserver_connstring"
const done = "from refresh-configuration to running"
const failed = "from refresh-configuration to refresh-configuration-pending"

/** Asks for a refresh, and waits until one more was done. */
const refreshed = Effect.fnUntraced(function* (node: Compute) {
  const before = times(node, done)
  const answer = yield* refresh(node)
  expect([answer.status, answer.text]).toEqual([200, ""])
  yield* eventually(
    () => `the configuration is refreshed\n${node.stderr()}`,
    () => times(node, done) > before
  )
})

const withKeys =
  (...keys: ReadonlyArray<unknown>): NonNullable<StartOptions["document"]> =>
  (document) => ({ ...document, compute_ctl_config: { jwks: { keys } } })

describe("a refresh", () => {
  for (const source of ["configFile", "controlPlane"] as const) {
    it.live(`S-086 S-088 takes over another pageserver from the ${source}, under the same postmaster`, () =>
      Effect.gen(function* () {
        const bed = yield* makeBed({ pageservers: 2 })
        const { requests } = bed.storage.controlPlane
        const node = yield* bed.run({ source })
        const postmaster = yield* node.postmaster
        const session = yield* node.session
        yield* bed.publish({ source, spec: onPageserver(bed, 1) })
        yield* refreshed(node)
        expect(yield* node.status).toMatchObject({ status: "running", error: null })
        expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 1))
        const [seen] = yield* session.query(pageserverOf)
        expect(seen?.rows).toEqual([[urlOf(bed, 1)]])
        expect(yield* node.postmaster).toBe(postmaster)
        const path = `/compute/api/v2/computes/${bed.computeId()}/spec`
        expect(requests.all().map((request) => request.path)).toEqual(source === "controlPlane" ? [path, path] : [])
        yield* node.stop
      })
    )
  }

  it.live("C2 applies whatever else has changed, catalogs included", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const spec = yield* catalog(bed, node, {
        roles: [{ name: "alice" }],
        databases: [{ name: "app", owner: "alice" }]
      })
      yield* bed.publish({ spec })
      yield* refreshed(node)
      expect(yield* node.value("SELECT datdba::regrole FROM pg_database WHERE datname = 'app'")).toBe("alice")
      yield* bed.publish({ settings: [{ name: "work_mem", value: "5MB", vartype: "string" }] })
      yield* refreshed(node)
      expect(yield* node.value("SHOW work_mem")).toBe("5MB")
      yield* node.stop
    })
  )

  it.live("S-087 S-091 without a change rewrites nothing; every request counts", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const count = Effect.map(
        node.external("GET /metrics"),
        ({ text }) => /^pg_cctl_pagestream_request_errors_total (\d+)$/mu.exec(text)?.[1]
      )
      expect(yield* count).toBe("0")
      const before = yield* confVersion(node)
      yield* refreshed(node)
      yield* bed.publish({ spec: { operation_uuid: "0f657b36-4b0f-4a2d-9c2e-1dcd615e7d8c" } })
      yield* refreshed(node)
      yield* refreshed(node)
      expect(yield* confVersion(node)).toBe(before)
      expect(yield* node.status).toMatchObject({ status: "running", error: null })
      expect(yield* count).toBe("3")
      yield* node.stop
    })
  )

  it.live("C2 after a /configure compares with what that has applied", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed({ pageservers: 2 })
      const node = yield* bed.run()
      const options = { spec: onPageserver(bed, 1) }
      expect((yield* configure(bed, node, options)).status).toBe(200)
      const before = yield* confVersion(node)
      yield* bed.publish(options)
      yield* refreshed(node)
      expect(yield* confVersion(node)).toBe(before)
      yield* bed.publish({})
      yield* refreshed(node)
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 0))
      yield* node.stop
    })
  )

  it.live("S-090 that was asked for while the node starts is served afterwards", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed({ pageservers: 2 })
      const slow = bed.storage.pageserver.faults.add({ at: "command", do: "hang" })
      const node = yield* bed.start()
      yield* bed.storage.pageserver.commands.until(() => true)
      yield* bed.publish({ spec: onPageserver(bed, 1) })
      const answer = yield* refresh(node)
      expect([answer.status, answer.text]).toEqual([200, ""])
      expect(yield* node.status).toMatchObject({ status: "init", error: null })
      slow.release()
      yield* node.logged(done)
      expect(yield* node.status).toMatchObject({ status: "running", error: null })
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 1))
      expect(node.stderr()).not.toContain("Refresh configuration:")
      yield* node.stop
    })
  )

  it.live("C3 a burst of notifications costs two fetches at most, and the node goes on", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { requests } = bed.storage.controlPlane
      const node = yield* bed.run({ source: "controlPlane" })
      requests.clear()
      const answers = yield* Effect.all(
        Array.from({ length: 100 }, () => refresh(node)),
        { concurrency: 10 }
      )
      // 500 is said while a fetch is on its way.
      expect(answers.filter(({ status }) => status !== 200 && status !== 500)).toEqual([])
      expect(answers[0]?.status).toBe(200)
      yield* Effect.sleep("2 seconds")
      expect(requests.all().length).toBeLessThanOrEqual(2)
      expect(requests.all().length).toBeGreaterThan(0)
      expect(yield* node.status).toMatchObject({ status: "running", error: null })
      expect((yield* configure(bed, node)).status).toBe(200)
      yield* node.stop
    })
  )

  it.live("C3 a notification during the back-off is served by the next attempt, and costs none of its own", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed({ pageservers: 2 })
      const { faults, requests } = bed.storage.controlPlane
      const source = "controlPlane" as const
      const node = yield* bed.run({ source })
      requests.clear()
      faults.add({ at: "request", do: "answer", status: 503 })
      yield* refresh(node)
      yield* node.logged(failed)
      yield* bed.publish({ source, spec: onPageserver(bed, 1) })
      for (let count = 0; count < 5; count++) expect((yield* refresh(node)).status).toBe(200)
      expect(requests.all()).toHaveLength(1)
      yield* node.waitFor("running")
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 1))
      yield* Effect.sleep("2 seconds")
      expect(requests.all().map(({ status }) => status)).toEqual([503, 200])
      expect(yield* node.status).toMatchObject({ status: "running", error: null })
      expect((yield* configure(bed, node)).status).toBe(200)
      yield* node.stop
    })
  )
})

describe("a refresh that fails", () => {
  it.live("S-089 C3 shows why, leaves Postgres alone, and heals by itself once the file is good again", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed({ pageservers: 2 })
      const node = yield* bed.run()
      const postmaster = yield* node.postmaster
      const before = yield* confVersion(node)
      yield* bed.publish({ document: () => "{" })
      expect((yield* refresh(node)).status).toBe(200)
      yield* eventually("it was tried twice", () => times(node, failed) >= 2)
      expect(yield* node.waitFor("refresh_configuration_pending")).toMatchObject({
        error: expect.stringContaining("could not parse config file")
      })
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 0))
      expect(yield* confVersion(node)).toBe(before)
      const refused = yield* configure(bed, node)
      expect([refused.status, refused.json]).toEqual([
        412,
        { error: "invalid compute status: refresh-configuration-pending" }
      ])
      yield* bed.publish({ spec: onPageserver(bed, 1) })
      expect(yield* node.waitFor("running")).toMatchObject({ error: null })
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 1))
      expect(yield* node.postmaster).toBe(postmaster)
      yield* node.stop
    })
  )

  it.live("C13 with another timeline is refused, visible, and not retried before the next notification", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed({ pageservers: 2 })
      const { requests } = bed.storage.controlPlane
      const source = "controlPlane" as const
      const node = yield* bed.run({ source })
      requests.clear()
      const timeline = "0123456789abcdef0123456789abcdef"
      yield* bed.publish({ source, spec: { ...onPageserver(bed, 1), timeline_id: timeline } })
      yield* refresh(node)
      yield* node.logged(failed)
      const shown = {
        status: "refresh_configuration_pending",
        timeline: bed.storage.timelineId,
        error: `timeline_id: this compute serves timeline ${bed.storage.timelineId}`
      }
      expect(yield* node.status).toMatchObject(shown)
      yield* Effect.sleep("2 seconds")
      expect(yield* node.status).toMatchObject(shown)
      expect(requests.all()).toHaveLength(1)
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 0))
      yield* bed.publish({ source, spec: onPageserver(bed, 1) })
      yield* refreshed(node)
      expect(yield* node.status).toMatchObject({ status: "running", error: null })
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 1))
      yield* node.stop
    })
  )

  it.live("C1 in its apply is retried in full, although the spec is the same", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      yield* bed.publish({ spec: yield* catalog(bed, node, { databases: [{ name: "app", owner: "late" }] }) })
      yield* refresh(node)
      yield* eventually("it was tried twice", () => times(node, failed) >= 2)
      expect(yield* node.waitFor("refresh_configuration_pending")).toMatchObject({
        error: expect.stringContaining("app")
      })
      yield* node.sql("CREATE ROLE late")
      yield* node.waitFor("running")
      expect(yield* node.value("SELECT datdba::regrole FROM pg_database WHERE datname = 'app'")).toBe("late")
      yield* node.stop
    })
  )

  it.live("is ended by /terminate", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      yield* bed.publish({ document: () => "{" })
      yield* refresh(node)
      yield* node.logged(failed)
      yield* node.stop
      expect(syncsAtEnd(bed)).toHaveLength(1)
    })
  )
})

describe("a node that is detached", () => {
  it.live(
    "C14 404 and `attached` without a spec are attempts that fail; `empty` ends Postgres and the node with 1",
    () =>
      Effect.gen(function* () {
        const bed = yield* makeBed()
        const { controlPlane } = bed.storage
        const node = yield* bed.run({ source: "controlPlane" })
        const postmaster = yield* node.postmaster
        controlPlane.remove(bed.computeId())
        yield* refresh(node)
        yield* node.logged(failed)
        expect(yield* node.status).toMatchObject({ error: expect.stringContaining("404 Not Found") })
        controlPlane.answer(
          bed.computeId(),
          200,
          JSON.stringify({ status: "attached", spec: null, compute_ctl_config: { jwks: { keys: [] } } })
        )
        yield* node.logged("compute is attached, but spec is empty")
        expect(yield* node.value("SELECT 1")).toBe("1")
        controlPlane.empty(bed.computeId(), [])
        yield* node.logged("from refresh-configuration to termination-pending-immediate")
        const began = performance.now()
        expect((yield* node.exit).code).toBe(1)
        expect(performance.now() - began).toBeLessThan(5000)
        expect(isAlive(postmaster)).toBe(false)
        expect(node.stderr()).toContain("database system is shut down")
        expect(syncsAtEnd(bed)).toHaveLength(1)
      })
  )
})

describe("keys", () => {
  it.live("H6 are replaced by those that a refresh brings, once it has succeeded, and by no empty set", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const key = newKey()
      const other = token(key, { compute_id: bed.computeId() }, { alg: "EdDSA", kid: "k1" })
      const withOther = Effect.map(
        node.external("GET /status", { headers: { authorization: `Bearer ${other}` } }),
        ({ status }) => status
      )
      const withOwn = Effect.map(node.external("GET /status"), ({ status }) => status)
      const wrong = { timeline_id: "0123456789abcdef0123456789abcdef" }
      yield* bed.publish({ spec: wrong, document: withKeys(jwkOf(key)) })
      yield* refresh(node)
      yield* node.logged(failed)
      expect([yield* withOwn, yield* withOther]).toEqual([200, 401])
      yield* bed.publish({ document: withKeys(jwkOf(key)) })
      yield* refreshed(node)
      expect([yield* withOwn, yield* withOther]).toEqual([401, 200])
      yield* bed.publish({ document: withKeys() })
      yield* refreshed(node)
      expect([yield* withOwn, yield* withOther]).toEqual([401, 200])
      yield* bed.publish({ document: withKeys(bed.storage.keys.computeJwk) })
      yield* refreshed(node)
      expect([yield* withOwn, yield* withOther]).toEqual([200, 401])
      yield* node.stop
    })
  )
})
