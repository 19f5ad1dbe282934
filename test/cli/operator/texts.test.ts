/** What the commands print for answers that are known to the letter. */
import { describe, expect, it } from "@effect/vitest"
import { parseMetrics, showMetrics } from "../../../src/cli/operator/metrics.ts"
import { showReconcile } from "../../../src/cli/operator/showReconcile.ts"
import { showStatus } from "../../../src/cli/operator/showStatus.ts"
import { showTimeline } from "../../../src/cli/operator/showTimeline.ts"
import { duration, screen, time } from "../../../src/cli/operator/terminal.ts"
import { status } from "../../http/client/scripted.ts"

const plain = screen({ colours: false, columns: 80 })
const coloured = screen({ colours: true, columns: 80 })
const begin = Date.parse("2026-11-21T08:49:07.000Z")

const stage = (name: string, at: number, duration_ms: number | null, error: string | null = null) => ({
  stage: name,
  started_at: new Date(begin + at).toISOString(),
  duration_ms,
  error
})

describe("durations and times", () => {
  it("have two units at most", () => {
    expect([0, 999, 1000, 59_999, 60_000, 61_500, 3_600_000, 7_260_000, 90_000_000, -5].map(duration)).toEqual([
      "0 ms",
      "999 ms",
      "1.0 s",
      "59.9 s",
      "1 min",
      "1 min 1 s",
      "1 h",
      "2 h 1 min",
      "1 d 1 h",
      "0 ms"
    ])
    expect(time("2026-11-21T08:49:07.987Z")).toBe("2026-11-21 08:49:07 UTC")
    expect(time("yesterday\u001b[2J")).toBe("yesterday\\u001b[2J")
  })
})

describe("status", () => {
  it("shows what is known, and since when", () => {
    const answer = { ...status("running"), tenant: "t1", last_active: "2026-11-21T08:50:00.000+00:00" }
    expect(showStatus(plain, answer, Date.parse("2026-11-21T08:52:10.000Z"))).toEqual([
      "running",
      "  started  2026-11-21 08:49:07 UTC, 3 min 2 s ago",
      "  tenant   t1",
      "  active   2026-11-21 08:50:00 UTC, 2 min 10 s ago"
    ])
  })

  it("shows an error of several lines under itself, and nothing that acts on the terminal", () => {
    const answer = status("failed", "no safekeepers\n\nCaused by:\n    \u001b[2Jgone")
    expect(showStatus(plain, answer, undefined)).toEqual([
      "failed",
      "  started  2026-11-21 08:49:07 UTC",
      "  error    no safekeepers",
      "",
      "           Caused by:",
      "               \\u001b[2Jgone"
    ])
  })

  it("is coloured on a terminal", () => {
    const [first] = showStatus(coloured, status("running"), undefined)
    expect(first).toBe("\u001b[32mrunning\u001b[0m")
    expect(showStatus(coloured, status("failed"), undefined)[0]).toBe("\u001b[31mfailed\u001b[0m")
    expect(showStatus(coloured, status("init"), undefined)[0]).toBe("\u001b[33minit\u001b[0m")
  })
})

describe("timeline", () => {
  it("draws stages to scale, under those that hold them", () => {
    const stages = [
      stage("start_compute", 0, 1000),
      stage("prepare_pgdata", 0, 500),
      stage("check_safekeepers_synced", 0, 100),
      stage("create_pgdata", 10, 50),
      stage("get_basebackup", 100, 400),
      stage("start_postgres", 500, 250),
      stage("configure_as_primary", 750, 250)
    ]
    expect(showTimeline(plain, { stages }, begin + 60_000)).toEqual([
      "start at 2026-11-21 08:49:07 UTC",
      "STAGE                         BEGINS AT   TAKES",
      "start_compute                      0 ms   1.0 s  ██████████████████████████████",
      "  prepare_pgdata                   0 ms  500 ms  ███████████████",
      "    check_safekeepers_synced       0 ms  100 ms  ███",
      "    create_pgdata                 10 ms   50 ms  ██",
      "    get_basebackup               100 ms  400 ms     ████████████",
      "  start_postgres                 500 ms  250 ms                 ████████",
      "  configure_as_primary           750 ms  250 ms                        ████████"
    ])
  })

  it("marks what runs and what failed", () => {
    const stages = [
      stage("start_compute", 0, null),
      stage("prepare_pgdata", 0, null),
      stage("create_pgdata", 0, 100),
      stage("get_basebackup", 100, 300, "no\u001b such timeline")
    ]
    expect(showTimeline(plain, { stages }, begin + 1000)).toEqual([
      "start at 2026-11-21 08:49:07 UTC",
      "STAGE               BEGINS AT   TAKES",
      "start_compute            0 ms   1.0 s  running  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒",
      "  prepare_pgdata         0 ms   1.0 s  running  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒",
      "    create_pgdata        0 ms  100 ms           ███",
      "    get_basebackup     100 ms  300 ms  failed      █████████",
      "      no\\u001b such timeline"
    ])
    const painted = showTimeline(coloured, { stages }, begin + 1000).join("\n")
    expect(painted).toContain("\u001b[31m█████████\u001b[0m")
    expect(painted).toContain("\u001b[33m▒▒")
  })

  it("draws each try of a start on its own", () => {
    const stages = [
      stage("start_compute", 0, 200, "no safekeepers"),
      stage("prepare_pgdata", 0, 200, "no safekeepers"),
      stage("start_compute", 600_000, 100),
      stage("prepare_pgdata", 600_000, 100)
    ]
    const lines = showTimeline(plain, { stages }, begin)
    expect(lines.filter((line) => line.startsWith("start at "))).toEqual([
      "start at 2026-11-21 08:49:07 UTC",
      "start at 2026-11-21 08:59:07 UTC"
    ])
    expect(lines.filter((line) => line.startsWith("  prepare_pgdata"))).toHaveLength(2)
  })

  it("says where there is nothing yet", () => {
    expect(showTimeline(plain, { stages: [] }, begin)).toEqual(["no stage has begun"])
  })
})

describe("reconcile", () => {
  const apply = {
    mode: "incremental" as const,
    started_at: "2026-11-21T08:49:07.000Z",
    duration_ms: 1234,
    counts: {},
    failures: [],
    warnings: [],
    error: null
  }

  it("says that nothing was to be done", () => {
    expect(showReconcile(plain, { last_apply: apply, pending_restart: [] })).toEqual([
      "nothing to do, incremental apply at 2026-11-21 08:49:07 UTC, took 1.2 s"
    ])
    expect(showReconcile(plain, { last_apply: null, pending_restart: ["shared_buffers"] })).toEqual([
      "nothing was applied by this process yet",
      "",
      "Waiting for a restart of Postgres",
      "  shared_buffers"
    ])
  })

  it("lists what was done, and what was not and why", () => {
    const failure = { object: 'database "shop"', operation: "create_database", database: "postgres" }
    const last_apply = {
      ...apply,
      counts: { create_role: 2, grant_schema: 12 },
      failures: [
        { ...failure, outcome: "failed" as const, sqlstate: "42501", message: "permission denied" },
        { ...failure, operation: "grant_schema", outcome: "skipped" as const, sqlstate: null, message: null }
      ],
      warnings: ["no extension \u001b[31mneon"],
      error: "1 operation failed"
    }
    expect(showReconcile(plain, { last_apply, pending_restart: [] })).toEqual([
      "failed, incremental apply at 2026-11-21 08:49:07 UTC, took 1.2 s",
      "  1 operation failed",
      "",
      "Operations",
      "  create_role    2",
      "  grant_schema  12",
      "",
      "Not done",
      '  create_database database "shop" in postgres: failed, 42501 permission denied',
      '  grant_schema database "shop" in postgres: skipped',
      "",
      "Warnings",
      "  no extension \\u001b[31mneon"
    ])
  })
})

describe("metrics", () => {
  const text = `\
# HELP up Whether it runs\\nor not
# TYPE up gauge
up{build_tag="a\\"b",status="init"} 1
# TYPE wait_seconds histogram
wait_seconds_bucket{stage="x",le="0.5"} 1
wait_seconds_bucket{stage="x",le="+Inf"} 2
wait_seconds_sum{stage="x"} 3
wait_seconds_count{stage="x"} 2
# TYPE none_seconds histogram
none_seconds_bucket{le="+Inf"} 0
none_seconds_sum 0
none_seconds_count 0
plain_total 12 1700000000000
`

  it("are read family by family", () => {
    const [up, wait, none, rest] = parseMetrics(text)
    expect(up).toEqual({
      name: "up",
      type: "gauge",
      help: "Whether it runs\nor not",
      samples: [{ name: "up", labels: { build_tag: 'a"b', status: "init" }, value: 1 }]
    })
    expect(wait?.samples.map(({ value }) => value)).toEqual([1, 2, 3, 2])
    expect(none?.samples).toHaveLength(3)
    expect(rest).toEqual({
      name: "plain_total",
      type: "untyped",
      help: "",
      samples: [{ name: "plain_total", labels: {}, value: 12 }]
    })
  })

  it("are shown in columns, histograms as their means", () => {
    expect(showMetrics(parseMetrics(text))).toEqual([
      'up{build_tag="a\\"b",status="init"}   1',
      'wait_seconds{stage="x"}              2  mean 1.5 s',
      "none_seconds                         0",
      "plain_total                         12"
    ])
  })
})
