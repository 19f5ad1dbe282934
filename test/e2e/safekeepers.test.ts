/** At which position a node starts: what the safekeepers say, and the sync where they do not agree. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Lsn from "../../src/domain/Lsn.ts"
import { type Bed, makeBed } from "../support/bed.ts"
import type { Compute } from "../support/compute.ts"
import { at, commands, knowNothing, position, syncs } from "../support/storage.ts"

/** The safekeepers have 100 ms to answer, which is little where several tests share a processor. */
const inTime = { retry: 3 }

const basebackups = (bed: Bed) => commands(bed).map(({ text }) => text)

const timings = (node: Compute) => Effect.map(node.external("GET /metrics.json"), ({ json }) => json)

describe("safekeepers at the start", () => {
  it.live(
    "S-031 that agree spare the sync process; the base backup is taken at their position",
    () =>
      Effect.gen(function* () {
        const bed = yield* makeBed()
        const lsn = yield* position(bed)
        const node = yield* bed.run()
        expect(syncs(bed)).toEqual([])
        const { tenantId, timelineId } = bed.storage
        expect(basebackups(bed)).toEqual([`basebackup ${tenantId} ${timelineId} ${Lsn.format(lsn)} --gzip`])
        expect(yield* timings(node)).toMatchObject({ sync_safekeepers_ms: 0 })
        yield* node.stop
      }),
    inTime
  )

  it.live("S-032 that differ are synced once, in PGDATA, and the base backup is taken at what the sync says", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const lsn = yield* position(bed)
      for (const [index, safekeeper] of bed.storage.safekeepers.entries()) {
        safekeeper.setStatus(at(lsn - BigInt(index * 8)))
      }
      const node = yield* bed.run()
      expect(syncs(bed)).toMatchObject([{ pgdata: node.pgdata, stdout: Lsn.format(lsn), code: 0 }])
      expect(basebackups(bed)[0]).toContain(` ${Lsn.format(lsn)} --gzip`)
      expect(yield* timings(node)).toMatchObject({ sync_safekeepers_ms: expect.any(Number) })
      expect(node.stderr()).toContain("not synced. ")
      yield* node.stop
    })
  )

  it.live("S-033 that do not know the timeline force a sync, also where their answer is only one of three", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const [fast, ...slow] = bed.storage.safekeepers
      fast?.setStatus({ _tag: "Unknown" })
      for (const safekeeper of slow) safekeeper.faults.add({ at: "command", do: "delay", millis: 30 })
      const node = yield* bed.run()
      expect(syncs(bed)).toHaveLength(1)
      yield* node.stop
    })
  )

  it.live("S-034 with no position at all the latest base backup is asked for", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      knowNothing(bed)
      bed.storage.stub.faults.add({ at: "sync", do: "print", text: "0/0" })
      const node = yield* bed.run()
      const { tenantId, timelineId } = bed.storage
      expect(basebackups(bed)).toEqual([`basebackup ${tenantId} ${timelineId} --gzip`])
      yield* node.stop
    })
  )

  it.live("S-040 a generation is put in front of the addresses", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const addresses = bed.storage.safekeepers.map(({ address }) => address).join(",")
      const node = yield* bed.run({ spec: { safekeepers_generation: 1 } })
      expect(yield* node.value("SHOW neon.safekeepers")).toBe(`g#1:${addresses}`)
      yield* node.stop
      const without = yield* bed.run()
      expect(yield* without.value("SHOW neon.safekeepers")).toBe(addresses)
      yield* without.stop
    })
  )

  it.live(
    "S-041 one of three that is down holds nothing up",
    () =>
      Effect.gen(function* () {
        const bed = yield* makeBed()
        for (const safekeeper of bed.storage.safekeepers) {
          yield* safekeeper.stop
          const before = syncs(bed).length
          const node = yield* bed.run()
          expect(syncs(bed)).toHaveLength(before)
          expect(yield* timings(node)).toMatchObject({ sync_sk_check_ms: expect.toSatisfy((millis) => millis < 200) })
          yield* node.stop
          yield* safekeeper.start
        }
      }),
    inTime
  )

  it.live(
    "S-041 one of three that hangs holds nothing up, nor a second one that is slow",
    () =>
      Effect.gen(function* () {
        const bed = yield* makeBed()
        const [one, two] = bed.storage.safekeepers
        one?.faults.add({ at: "accept", do: "hang", times: "forever" })
        two?.faults.add({ at: "command", do: "delay", millis: 20, times: "forever" })
        const node = yield* bed.run()
        expect(syncs(bed)).toEqual([])
        yield* node.stop
      }),
    inTime
  )

  it.live("S-042 a lost safekeeper is replaced by a restart with another list", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed({ safekeepers: 4 })
      const addresses = bed.storage.safekeepers.map(({ address }) => address)
      const node = yield* bed.run({ spec: { safekeeper_connstrings: addresses.slice(0, 3) } })
      yield* node.sql("CREATE TABLE kept AS SELECT 42 AS n")
      yield* node.stop
      yield* bed.storage.safekeepers[0]?.stop ?? Effect.void
      const again = yield* bed.run({ spec: { safekeeper_connstrings: addresses.slice(1) } })
      expect(yield* again.value("SHOW neon.safekeepers")).toBe(addresses.slice(1).join(","))
      expect(yield* again.value("SELECT n FROM kept")).toBe("42")
      yield* again.stop
    })
  )

  it.live("S-048 a new node for each query sees what the one before has committed", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const statements = [
        "CREATE TABLE t AS SELECT generate_series(1, 10000) AS n",
        "INSERT INTO t SELECT generate_series(10001, 20000)",
        "UPDATE t SET n = n + 1",
        "DELETE FROM t WHERE n % 2 = 0"
      ]
      for (const statement of statements) {
        const node = yield* bed.run()
        yield* node.sql(statement)
        yield* node.stop
      }
      const node = yield* bed.run()
      expect(yield* node.sql("SELECT count(*), sum(n) FROM t")).toEqual([["10000", "100020000"]])
      yield* node.stop
    })
  )

  it.live("that are all down are left to the sync process", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      yield* Effect.forEach(bed.storage.safekeepers, ({ stop }) => stop)
      const node = yield* bed.run()
      expect(syncs(bed)).toHaveLength(1)
      expect(node.stderr()).toContain("failed sync safekeepers check")
      yield* node.stop
    })
  )

  it.live("that cannot be synced fail the start after six runs, with the words of the last", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      knowNothing(bed)
      bed.storage.stub.faults.add({ at: "sync", do: "fail", message: "FATAL:  no majority of safekeepers", times: 6 })
      const error = yield* bed.failure()
      expect(syncs(bed)).toHaveLength(6)
      expect(error).toMatch(/^failed to sync safekeepers\n\nCaused by:\n/u)
      expect(error).toContain("exited with non-zero status: exit status: 1")
      expect(error).toContain("no majority of safekeepers")
      expect(basebackups(bed)).toEqual([])
    })
  )

  it.live("a sync that says nonsense is repeated", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      knowNothing(bed)
      bed.storage.stub.faults.add({ at: "sync", do: "print", text: "nonsense" })
      const node = yield* bed.run()
      expect(syncs(bed)).toHaveLength(2)
      yield* node.stop
    })
  )
})
