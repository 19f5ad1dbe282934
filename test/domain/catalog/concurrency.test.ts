import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { decodeComputeSpec } from "../../../src/domain/ComputeConfig.ts"
import { atReconfigure, atStart } from "../../../src/domain/catalog/concurrency.ts"

const specWith = (setting: string | undefined, conf: string | undefined, reconfigure = 1) =>
  Result.getOrThrow(
    decodeComputeSpec({
      format_version: 1,
      suspend_timeout_seconds: -1,
      reconfigure_concurrency: reconfigure,
      cluster: {
        roles: [],
        databases: [],
        settings: setting === undefined ? null : [{ name: "max_connections", value: setting, vartype: "integer" }],
        postgresql_conf: conf ?? null
      }
    })
  )

describe("concurrency", () => {
  it.each<readonly [setting: string | undefined, conf: string | undefined, expected: number]>([
    ["0", undefined, 1],
    ["9", undefined, 9],
    ["10", undefined, 10],
    ["29", undefined, 10],
    ["30", undefined, 10],
    ["299", undefined, 99],
    ["300", undefined, 100],
    ["many", "max_connections = 30", 10],
    [undefined, "max_connections='90'\nmy_max_connections = 12\n max_connections = 60 \nmax_connections = 90", 20],
    [undefined, "", 10],
    [undefined, undefined, 10]
  ])("at the start, setting %s and file %s give %s", (setting, conf, expected) => {
    assert.strictEqual(atStart(specWith(setting, conf)), expected)
  })

  it.prop("it is between 1 and 100 and does not fall", [Schema.Natural, Schema.Natural], ([a, b]) => {
    const [low, high] = [Math.min(a, b), Math.max(a, b)].map((limit) => atStart(specWith(String(limit), undefined)))
    assert.isTrue(low !== undefined && high !== undefined && low >= 1 && low <= high && high <= 100)
  })

  it("a reconfiguration takes what the document says, 0 means 1", () => {
    assert.strictEqual(atReconfigure(specWith(undefined, undefined, 0)), 1)
    assert.strictEqual(atReconfigure(specWith(undefined, undefined, 7)), 7)
  })
})
