import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { TenantId, TimelineId } from "../../src/domain/Identifiers.ts"
import * as Lsn from "../../src/domain/Lsn.ts"

describe("Lsn", () => {
  it.prop("a position survives its text form", [Lsn.Lsn], ([lsn]) => Lsn.parse(Lsn.format(lsn)) === lsn)

  it.prop("positions are ordered as their halves are", [Lsn.Lsn, Lsn.Lsn], ([a, b]) => {
    const padded = (lsn: Lsn.Lsn) =>
      Lsn.format(lsn)
        .split("/")
        .map((half) => half.padStart(8, "0"))
        .join("/")
    return a < b === padded(a) < padded(b)
  })

  it.each([
    ["0/16B3748", 0x16b3748n],
    ["1A/0", 0x1a00000000n],
    [" 0/28f10d8 ", 0x28f10d8n],
    ["+0/+1", 1n],
    ["0000000000/00000000001", 1n],
    ["FFFFFFFF/FFFFFFFF", (1n << 64n) - 1n]
  ])("%j is a position", (text, value) => {
    assert.strictEqual<bigint | undefined>(Lsn.parse(text), value)
  })

  it.each(["", "0", "0/", "/0", "0/1/2", "0 /1", "100000000/0", "0/100000000", "0/g", "-1/0"])(
    "%j is no position",
    (text) => {
      assert.isUndefined(Lsn.parse(text))
    }
  )
})

describe("ids", () => {
  it.prop("ids survive their text form in either case", [TenantId, TimelineId], ([tenant, timeline]) => {
    const decode = Schema.decodeSync(TenantId)
    return decode(tenant.toUpperCase()) === tenant && Schema.decodeSync(TimelineId)(timeline) === timeline
  })

  it.each([
    "",
    "6f0d1c9a52b7e4830a1e5d7c94b2f86",
    "6f0d1c9a52b7e4830a1e5d7c94b2f86z",
    "0x6f0d1c9a52b7e4830a1e5d7c94b2f8"
  ])("%j is no id", (text) => {
    assert.isTrue(Result.isFailure(Schema.decodeUnknownResult(TenantId)(text)))
  })
})
