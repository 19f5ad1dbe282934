/** The timeline moves to another pageserver while a node runs on it: what sessions, storage and restarts see. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { localAdmin } from "../../src/domain/ConnString.ts"
import type { MoveReport } from "../../src/local/MoveReport.ts"
import * as moveTimeline from "../../src/local/moveTimeline.ts"
import { type Bed, makeBed, type StartOptions } from "../support/bed.ts"
import { eventually, isAlive } from "../support/compute.ts"
import { refresh, times, urlOf } from "../support/reconfigure.ts"
import { retries } from "../support/storage.ts"

const pageserverOf = "SHOW neon.pageserver_connstring"
const failedAttempt = "from refresh-configuration to refresh-configuration-pending"

/** Base backups that a pageserver was asked for, and what became of them. */
const backups = (bed: Bed, number: number) =>
  (bed.storage.pageservers[number]?.commands.all() ?? [])
    .filter(({ text }) => text.startsWith("basebackup"))
    .map(({ outcome }) => outcome)

/** Two pageservers of which the first has the timeline, and a control plane that says so. */
const setUp = Effect.gen(function* () {
  const bed = yield* makeBed({ pageservers: 2 })
  const { storage } = bed
  storage.pageservers[1]?.detach(storage)
  const computeId = bed.computeId()
  const { internalPort, port } = yield* bed.place()
  const document = yield* storage.documentFor({ port })
  if (document.spec === undefined || document.spec === null) throw new Error("the document has no spec")
  storage.controlPlane.attach(computeId, { ...document, spec: { ...document.spec, skip_pg_catalog_updates: true } })
  const move = yield* moveTimeline.make(storage, {
    computeId,
    internalHttpPort: internalPort,
    postgres: localAdmin(port)
  })
  const fromControlPlane: StartOptions = { source: "controlPlaneAsItIs" }
  return { bed, move, fromControlPlane, run: bed.run(fromControlPlane) }
})

const followed = (bed: Bed, from: number, to: number, postmaster: number): MoveReport => ({
  timeline_id: bed.storage.timelineId,
  from: { id: from, url: urlOf(bed, from - 1) },
  to: { id: to, url: urlOf(bed, to - 1) },
  live_after: expect.any(Number),
  postmaster: { before: String(postmaster), after: String(postmaster) },
  problem: null
})

describe("a move to another pageserver", () => {
  it.live("there and back: the session that stayed open sees each address, under the same postmaster", () =>
    Effect.gen(function* () {
      const { bed, move, run } = yield* setUp
      const node = yield* run
      const postmaster = yield* node.postmaster
      const session = yield* node.session
      const seen = Effect.map(session.query(`${pageserverOf}; SELECT pg_postmaster_start_time()`), (sets) =>
        sets.map(({ rows }) => rows[0]?.[0])
      )
      const [first, started] = yield* seen
      expect(first).toBe(urlOf(bed, 0))
      for (const [from, to] of [
        [1, 2],
        [2, 1],
        [1, 2],
        [2, 1]
      ] as const) {
        expect(yield* move(undefined)).toEqual(followed(bed, from, to, postmaster))
        expect(yield* seen).toEqual([urlOf(bed, to - 1), started])
      }
      yield* node.waitFor("running")
      expect(isAlive(postmaster)).toBe(true)
      expect(backups(bed, 1)).toEqual([])
      yield* node.stop
    })
  )

  it.live("to where the timeline is does nothing; to a pageserver that does not exist is refused", () =>
    Effect.gen(function* () {
      const { bed, move, run } = yield* setUp
      const node = yield* run
      const asked = bed.storage.controlPlane.requests.all().length
      expect(yield* move(1)).toMatchObject({ from: { id: 1 }, to: { id: 1 }, live_after: null, problem: null })
      const { message } = yield* Effect.flip(move(3))
      expect(message).toBe("there is no pageserver 3: they are 1 to 2")
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 0))
      expect(bed.storage.controlPlane.requests.all()).toHaveLength(asked)
      yield* node.stop
    })
  )

  it.live("several at once go one after the other, each with its own way", () =>
    Effect.gen(function* () {
      const { bed, move, run } = yield* setUp
      const node = yield* run
      const postmaster = yield* node.postmaster
      const reports = yield* Effect.all(
        Array.from({ length: 5 }, () => move(undefined)),
        { concurrency: "unbounded" }
      )
      const expected = [1, 2, 1, 2, 1].map((from) => followed(bed, from, 3 - from, postmaster))
      expect(reports).toEqual(expect.arrayContaining(expected))
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 1))
      expect(bed.storage.attached().id).toBe(2)
      yield* node.stop
    })
  )

  it.live("in a storm of notifications every move arrives, and the control plane is spared", () =>
    Effect.gen(function* () {
      const { bed, move, run } = yield* setUp
      const node = yield* run
      const postmaster = yield* node.postmaster
      const { requests } = bed.storage.controlPlane
      requests.clear()
      let notified = 0
      const storm = yield* Effect.forkChild(
        Effect.gen(function* () {
          while (true) {
            yield* refresh(node)
            notified++
            yield* Effect.sleep("2 millis")
          }
        })
      )
      for (const to of [2, 1, 2]) {
        expect(yield* move(undefined)).toEqual(followed(bed, 3 - to, to, postmaster))
      }
      yield* eventually("many were sent", () => notified >= 300)
      yield* Fiber.interrupt(storm)
      yield* node.waitFor("running")
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 1))
      expect(requests.all().length).toBeLessThan(notified / 4)
      yield* node.stop
    })
  )

  it.live("while the control plane is down arrives once it is up again, without another notification", () =>
    Effect.gen(function* () {
      const { bed, move, run } = yield* setUp
      const { controlPlane } = bed.storage
      const node = yield* run
      const postmaster = yield* node.postmaster
      yield* controlPlane.stop
      const moving = yield* Effect.forkChild(move(2))
      yield* eventually("two attempts have failed", () => times(node, failedAttempt) >= 2)
      expect(yield* node.status).toMatchObject({ status: "refresh_configuration_pending", error: expect.any(String) })
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 0))
      yield* controlPlane.start
      expect(yield* Fiber.join(moving)).toEqual(followed(bed, 1, 2, postmaster))
      expect(yield* node.waitFor("running")).toMatchObject({ error: null })

      const refusals = controlPlane.faults.add({ at: "request", do: "answer", status: 503, times: 2 })
      expect(yield* move(1)).toEqual(followed(bed, 2, 1, postmaster))
      expect(refusals.used()).toBe(2)
      yield* node.stop
    })
  )

  it.live("a node that starts again afterwards starts from the new pageserver, with its data", () =>
    Effect.gen(function* () {
      const { bed, move, run } = yield* setUp
      const node = yield* run
      yield* node.sql("CREATE TABLE t AS SELECT 42 AS answer")
      yield* move(2)
      yield* node.stop
      const again = yield* run
      expect(yield* again.value("SELECT answer FROM t")).toBe("42")
      expect(yield* again.value(pageserverOf)).toBe(urlOf(bed, 1))
      expect([backups(bed, 0), backups(bed, 1)]).toEqual([["ok"], ["ok"]])
      expect(bed.storage.pageservers.map(({ unservable }) => unservable())).toEqual([0, 0])
      yield* again.stop
    })
  )

  it.live("the old pageserver can be killed: sessions, refreshes and a restart do without it", () =>
    Effect.gen(function* () {
      const { bed, move, run } = yield* setUp
      const node = yield* run
      const session = yield* node.session
      yield* move(2)
      yield* bed.storage.pageserver.stop
      yield* session.query("CREATE TABLE t AS SELECT 42 AS answer")
      const before = times(node, "from refresh-configuration to running")
      yield* refresh(node)
      yield* eventually("it is refreshed", () => times(node, "from refresh-configuration to running") > before)
      yield* node.stop
      const again = yield* run
      expect(yield* again.value("SELECT answer FROM t")).toBe("42")
      yield* again.stop
    })
  )

  it.live("a start with the old address is refused and counted there, and heals by a notification", () =>
    Effect.gen(function* () {
      const { bed, fromControlPlane, move } = yield* setUp
      const { controlPlane, pageserver } = bed.storage
      const stale = controlPlane.document(bed.computeId())
      const unseen = yield* move(2)
      expect(unseen.problem).toMatch(/^the compute cannot be told: connect ECONNREFUSED/u)
      const fresh = controlPlane.document(bed.computeId())
      if (stale === undefined || fresh === undefined) throw new Error("no document is attached")
      controlPlane.attach(bed.computeId(), stale)
      const node = yield* bed.start({ ...fromControlPlane, env: retries(0) })
      const { error } = yield* node.waitFor("failed")
      expect(error).toContain(`Not found: Tenant ${bed.storage.tenantId} not found`)
      expect(backups(bed, 0)).toEqual([`error: Not found: Tenant ${bed.storage.tenantId} not found`])
      expect(pageserver.unservable()).toBe(1)
      controlPlane.attach(bed.computeId(), fresh)
      yield* refresh(node)
      yield* eventually("the node runs", () =>
        Effect.runPromise(Effect.map(node.status, ({ status }) => status === "running"))
      )
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 1))
      expect(backups(bed, 1)).toEqual(["ok"])
      yield* node.stop
    })
  )

  it.live("during a start takes the base backup away from it; the node starts over from the new pageserver", () =>
    Effect.gen(function* () {
      const { bed, fromControlPlane, move } = yield* setUp
      const { pageserver } = bed.storage
      const slow = pageserver.faults.add({ at: "payload", do: "drip", bytes: 16_384, millis: 20 })
      const node = yield* bed.start({ ...fromControlPlane, env: retries(0) })
      yield* eventually("a base backup is under way", () =>
        pageserver.commands.all().some(({ payloadBytes }) => payloadBytes > 0)
      )
      const report = yield* move(2)
      expect(report.problem).toMatch(/^the compute was told, but Postgres cannot be asked: /u)
      slow.release()
      yield* eventually("the node runs", () =>
        Effect.runPromise(Effect.map(node.status, ({ status }) => status === "running"))
      )
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 1))
      expect([backups(bed, 0), backups(bed, 1)]).toEqual([["error: Shutting down"], ["ok"]])
      yield* node.stop
    })
  )
})
