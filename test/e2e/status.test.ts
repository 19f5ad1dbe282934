/** What a running node says of itself over HTTP. */
import * as Http from "node:http"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { makeBed } from "../support/bed.ts"
import { imageSize } from "../support/image.ts"

const timings = [
  "wait_for_spec_ms",
  "sync_sk_check_ms",
  "sync_safekeepers_ms",
  "pageserver_connect_micros",
  "basebackup_ms",
  "basebackup_bytes",
  "start_postgres_ms",
  "config_ms",
  "total_startup_ms",
  "load_ext_ms",
  "num_ext_downloaded",
  "largest_ext_size",
  "total_ext_download_size"
]

/** Members of `/metrics.json`, in the order of the wire. */
const numbers = (json: unknown): ReadonlyArray<readonly [string, unknown]> =>
  typeof json === "object" && json !== null ? Object.entries(json) : []

it.live("S-062 an unknown path is 404, another method than the path has is 405; both need no token", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.run()
    const replies = [
      yield* node.external("GET /nope"),
      yield* node.external("GET /configure"),
      yield* node.internal("GET /grants"),
      yield* node.external("GET /configure", { headers: {} })
    ]
    expect(replies.map(({ status }) => status)).toEqual([404, 405, 405, 405])
    for (const { json } of replies) expect(json).toEqual({ error: expect.any(String) })
    expect((yield* node.external("GET /status", { headers: {} })).status).toBe(400)
    yield* node.stop
  })
)

it.live("S-064 there is exactly one compute_ctl_up at any time, that of the status", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.start()
    const seen = new Set<string>()
    yield* node.waitFor("init")
    while (!seen.has("running")) {
      const { text } = yield* node.external("GET /metrics")
      const samples = [...text.matchAll(/^compute_ctl_up\{(.*)\} (\S+)$/gmu)]
      expect(samples).toHaveLength(1)
      const [, labels = "", value] = samples[0] ?? []
      expect(value).toBe("1")
      const [, status = ""] = /^build_tag="latest",status="([a-z-]+)"$/u.exec(labels) ?? []
      expect(["init", "running"]).toContain(status)
      seen.add(status)
      yield* Effect.sleep(20)
    }
    yield* node.stop
  })
)

it.live("S-065 the timings of the start are whole numbers, the total is the largest of its parts", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const sent = yield* imageSize(bed)
    const node = yield* bed.run()
    const { json } = yield* node.external("GET /metrics.json")
    expect(numbers(json).map(([name]) => name)).toEqual(timings)
    for (const [name, value] of numbers(json)) expect(value, name).toSatisfy(Number.isInteger)
    const value = new Map(numbers(json))
    expect(value.get("basebackup_bytes")).toBe(sent)
    const total = Number(value.get("total_startup_ms"))
    for (const name of ["sync_sk_check_ms", "sync_safekeepers_ms", "basebackup_ms", "start_postgres_ms", "config_ms"]) {
      expect(Number(value.get(name)), name).toBeLessThanOrEqual(total)
    }
    expect(Number(value.get("pageserver_connect_micros"))).toBeLessThanOrEqual(total * 1000)
    expect(value.get("wait_for_spec_ms")).toBe(0)
    // Each stage is a histogram, too.
    const { text } = yield* node.external("GET /metrics")
    for (const stage of ["prepare_pgdata", "get_basebackup", "start_postgres", "start_compute"]) {
      expect(text).toContain(`compute_ctl_startup_stage_duration_seconds_count{stage="${stage}"} 1`)
    }
    yield* node.stop
  })
)

it.live("S-067 a long history of transactions changes nothing for the next starts", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const first = yield* bed.run()
    yield* first.sql("CREATE TABLE t (n int)")
    // Every block with a handler is a transaction of its own.
    yield* first.sql(`DO $$ BEGIN FOR i IN 1..50000 LOOP
      BEGIN INSERT INTO t VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END;
    END LOOP; END $$`)
    yield* first.stop
    for (const _ of [1, 2]) {
      const sent = yield* imageSize(bed)
      const node = yield* bed.run()
      const { json } = yield* node.external("GET /metrics.json")
      expect(json).toMatchObject({ basebackup_bytes: sent, basebackup_ms: expect.any(Number) })
      expect(yield* node.value("SELECT sum(n) FROM t")).toBe("1250025000")
      yield* node.stop
    }
  })
)

it.live("S-068 2 000 GETs in a row are answered in milliseconds, the last as fast as the first", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.run()
    const agent = new Http.Agent({ keepAlive: true, maxSockets: 1 })
    const headers = { authorization: `Bearer ${yield* bed.token()}` }
    const millis: Array<number> = []
    for (let index = 0; index < 2000; index++) {
      const began = performance.now()
      const { status } = yield* node.external(index % 2 === 0 ? "GET /status" : "GET /metrics.json", { headers, agent })
      millis.push(performance.now() - began)
      expect(status).toBe(200)
    }
    agent.destroy()
    const median = (part: ReadonlyArray<number>): number => part.toSorted((a, b) => a - b)[part.length >> 1] ?? 0
    expect(median(millis)).toBeLessThan(10)
    expect(median(millis.slice(-500))).toBeLessThan(3 * median(millis.slice(0, 500)) + 2)
    yield* node.stop
  })
)
