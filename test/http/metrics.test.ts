import { readFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Metrics } from "../../src/layers/Metrics.ts"

const golden = (name: string): string => readFileSync(new URL(`../golden/http/${name}.txt`, import.meta.url), "utf8")

const withoutHelp = (text: string): string =>
  text
    .split("\n")
    .filter((line) => !line.startsWith("# HELP "))
    .join("\n")

/** Families with their types, in order. */
const families = (text: string): ReadonlyArray<string> => text.match(/^# TYPE .*$/gmu) ?? []

const rendered = (actions: (metrics: Metrics["Service"]) => Effect.Effect<void>): Promise<string> =>
  Effect.runPromise(
    Metrics.use((metrics) => Effect.andThen(actions(metrics), metrics.render)).pipe(
      Effect.provide(Metrics.layer("latest"))
    )
  )

describe("metrics", () => {
  it("an empty compute has the original's text, line by line", async () => {
    const text = await rendered((metrics) => metrics.cplaneRequest("200 OK"))
    expect(withoutHelp(text).trimEnd()).toBe(golden("metrics-empty").trimEnd())
  })

  it("the families of a running one stand in the original's order", async () => {
    const text = await rendered((metrics) =>
      Effect.all(
        [
          metrics.observeStage("basebackup", 0.1),
          metrics.pagestreamError,
          metrics.setStatus("refresh_configuration"),
          metrics.setStatus("running")
        ],
        { discard: true }
      )
    )
    const expected = families(golden("metrics-running")).filter((line) => !line.includes("installed_extensions"))
    expect(families(text)).toEqual([...expected, "# TYPE compute_ctl_startup_stage_duration_seconds histogram"])
  })

  it("each family has its help", async () => {
    const text = await rendered((metrics) => metrics.cplaneRequest("unknown"))
    expect(text.match(/^# HELP .*$/gmu)).toHaveLength(families(text).length)
    expect(text).toContain("# HELP compute_ctl_up Whether compute_ctl is running\n")
    expect(text).toContain(
      "# HELP compute_ctl_lfc_offloads_total Total number of LFC offloads requested by compute_ctl or lfc_offload_period_seconds option\n"
    )
  })

  it("requests are counted by their status, stages are timed", async () => {
    const text = await rendered((metrics) =>
      Effect.gen(function* () {
        yield* metrics.cplaneRequest("200 OK")
        yield* metrics.cplaneRequest("503 Service Unavailable")
        yield* metrics.cplaneRequest("200 OK")
        yield* metrics.pagestreamError
        yield* metrics.observeStage("start_postgres", 0.03)
        yield* metrics.observeStage("start_postgres", 400)
      })
    )
    expect(text).toContain('compute_ctl_cplane_requests_total{http_status="200 OK",rpc="GetConfig"} 2\n')
    expect(text).toContain(
      'compute_ctl_cplane_requests_total{http_status="503 Service Unavailable",rpc="GetConfig"} 1\n'
    )
    expect(text).toContain("pg_cctl_pagestream_request_errors_total 1\n")
    const stage = "compute_ctl_startup_stage_duration_seconds"
    expect(text).toContain(`${stage}_bucket{stage="start_postgres",le="0.025"} 0\n`)
    expect(text).toContain(`${stage}_bucket{stage="start_postgres",le="0.05"} 1\n`)
    expect(text).toContain(`${stage}_bucket{stage="start_postgres",le="+Inf"} 2\n`)
    expect(text).toContain(`${stage}_count{stage="start_postgres"} 2\n`)
  })

  it("whatever has changed shows in the next scrape", async () => {
    const changes: ReadonlyArray<readonly [string, (metrics: Metrics["Service"]) => Effect.Effect<void>]> = [
      ['status="running"', (metrics) => metrics.setStatus("running")],
      ['http_status="200 OK"', (metrics) => metrics.cplaneRequest("200 OK")],
      ["pg_cctl_pagestream_request_errors_total 1", (metrics) => metrics.pagestreamError],
      ['migration_id="3"', (metrics) => metrics.migrationFailed(3)],
      ["pg_cctl_configure_statement_timeout_errors_total 1", (metrics) => metrics.statementTimedOut],
      ['stage="basebackup"', (metrics) => metrics.observeStage("basebackup", 1)],
      ["compute_ctl_pending_restart_settings 2", (metrics) => metrics.setPendingRestart(2)]
    ]
    const scrapes = await Effect.runPromise(
      Metrics.use((metrics) =>
        Effect.forEach(changes, ([, change]) =>
          Effect.all([metrics.render, Effect.andThen(change(metrics), metrics.render), metrics.render])
        )
      ).pipe(Effect.provide(Metrics.layer("latest")))
    )
    for (const [index, [before = "", after = "", again = ""]] of scrapes.entries()) {
      const [text = ""] = changes[index] ?? []
      expect(before).not.toContain(text)
      expect(after).toContain(text)
      expect(again).toBe(after)
    }
  })

  it("two processes' worth of metrics do not meet", async () => {
    await rendered((metrics) => metrics.pagestreamError)
    expect(await rendered(() => Effect.void)).toContain("pg_cctl_pagestream_request_errors_total 0\n")
  })
})
