/** What takes long: ends that stay readable for 30 seconds, retries that are used up. Side by side. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { makeBed } from "../support/bed.ts"
import { commands, syncsAtEnd } from "../support/storage.ts"

const seconds = (began: number): number => (performance.now() - began) / 1000

describe.concurrent("slow", () => {
  it.live("S-179 S-180 /terminate answers when Postgres is down, and the end stays readable for 30 s", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const first = yield* node.terminate()
      const began = performance.now()
      const lsn = syncsAtEnd(bed)[0]?.stdout
      expect([first.status, first.json]).toEqual([200, { lsn }])
      expect(yield* node.status).toMatchObject({ status: "terminated", error: null })
      for (const mode of [undefined, "fast", "immediate"] as const) {
        const again = yield* node.terminate(mode)
        expect([again.status, again.json]).toEqual([201, { lsn }])
      }
      expect((yield* node.external("GET /metrics")).text).toContain(
        'compute_ctl_up{build_tag="latest",status="terminated"} 1'
      )
      expect((yield* node.external("POST /configure", { body: yield* bed.document() })).status).toBe(412)
      yield* Effect.sleep("25 seconds")
      expect((yield* node.status).status).toBe("terminated")
      expect((yield* node.exit).code).toBe(0)
      expect(seconds(began)).toBeGreaterThan(29)
      expect(seconds(began)).toBeLessThan(35)
      expect(syncsAtEnd(bed)).toHaveLength(1)
    })
  )

  it.live(
    "S-038 S-191 P5 a base backup that never works fails the start after 11 attempts; readable for 30 s, then 1",
    () =>
      Effect.gen(function* () {
        const bed = yield* makeBed()
        bed.storage.pageserver.faults.add({
          at: "command",
          do: "error",
          message: "basebackup-before-control-file",
          times: "forever"
        })
        const begun = performance.now()
        const node = yield* bed.start()
        const { error } = yield* node.waitFor("failed", "100 seconds")
        const began = performance.now()
        expect(commands(bed)).toHaveLength(11)
        expect((began - begun) / 1000).toBeGreaterThan(45)
        expect(error).toContain("failed to get basebackup@")
        expect(error).toContain("basebackup-before-control-file")
        yield* Effect.sleep("25 seconds")
        expect((yield* node.status).error).toBe(error)
        expect((yield* node.external("GET /metrics")).text).toContain('status="failed"')
        expect((yield* node.exit).code).toBe(1)
        expect(seconds(began)).toBeGreaterThan(29)
        expect(seconds(began)).toBeLessThan(35)
      }),
    150_000
  )

  it.live("P5 a failed start lingers also where the safekeepers cannot be synced, and ends with 1", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      for (const safekeeper of bed.storage.safekeepers) yield* safekeeper.stop
      bed.storage.stub.faults.add({ at: "sync", do: "fail", message: "no quorum", times: "forever" })
      const node = yield* bed.start()
      const { error } = yield* node.waitFor("failed")
      const began = performance.now()
      expect(error).toContain("failed to sync safekeepers")
      expect((yield* node.exit).code).toBe(1)
      expect(seconds(began)).toBeGreaterThan(29)
    })
  )

  it.live("S3 a sync that fails at the end is no success: 500, exit code 1, within 20 s or so", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      bed.storage.stub.faults.add({ at: "sync", do: "fail", message: "no quorum", times: "forever" })
      const began = performance.now()
      const answer = yield* node.terminate("fast")
      expect([answer.status, answer.json]).toEqual([
        500,
        { error: expect.stringContaining("failed to sync safekeepers on shutdown") }
      ])
      expect((yield* node.exit).code).toBe(1)
      expect(seconds(began)).toBeGreaterThan(15)
      expect(seconds(began)).toBeLessThan(28)
      expect(node.stderr()).not.toContain("to terminated")
      expect(syncsAtEnd(bed).length).toBeGreaterThan(5)
    })
  )

  it.live("S-192 in lakebase mode a start that takes too long ends the process with 1, Postgres with it", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const lakebase = { "--lakebase-mode": "true", "--pg-init-timeout": "5" }
      const pgbin = yield* bed.wrapper('[ "$1" = -D ] && exec sleep 100; exec "$stub" "$@"')
      bed.storage.pageserver.faults.add({ at: "command", do: "hang", match: "--replica" })
      for (const options of [
        { name: "hanging", args: lakebase, spec: { mode: "Replica" } },
        { name: "sleeping", args: { ...lakebase, "--pgbin": pgbin } }
      ]) {
        const node = yield* bed.start(options)
        const { code, millis } = yield* node.exit
        expect(code, options.name).toBe(1)
        expect(millis, options.name).toBeGreaterThan(5000)
        expect(millis, options.name).toBeLessThan(11_000)
        expect(node.stderr()).toContain("Postgres did not start within 5 seconds")
      }
    })
  )
})
