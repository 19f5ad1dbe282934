import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Lsn from "../../src/domain/Lsn.ts"
import { crc32c, endOfShutdownCheckpoint, type PgControl, parse, withState } from "../../src/domain/PgControl.ts"

/** First 292 bytes of the control file that initdb of PostgreSQL 17 wrote; the rest of it is zeros. */
const recorded =
  "eHIBIKB+AWukBgAAiXkQDAEAAAAAAAAAoH4BawAAAADwiU0BAAAAAPCJTQEAAAAAAQAAAAEAAAABAAAAAQAAAOICAAAAAAAAuTQAAAEAAAAAAAAA" +
  "2gIAAAEAAAABAAAAAQAAAAAAAACgfgFrAAAAAAAAAAAAAAAAAAAAAAAAAADoAwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" +
  "AAAAAAEAAAAAAAAAZAAAAAgAAAAKAAAAAAAAAEAAAAAAAAAACAAAAAAAAACH1jJBACAAAAAAAgAAIAAAAAAAAUAAAAAgAAAAzAcAAAAIAAABAAAA" +
  "AAAAAIThwlKBkISbbPA+To+wXL0s/+zMS8BzCEFojq/rwXAEP+ydXw=="

const file = (): Uint8Array => {
  const bytes = new Uint8Array(8192)
  bytes.set(Buffer.from(recorded, "base64"))
  return bytes
}
const seal = (bytes: Uint8Array, version: number, crcOffset: number): Uint8Array => {
  const view = new DataView(bytes.buffer)
  view.setUint32(8, version, true)
  view.setUint32(crcOffset, crc32c(bytes.subarray(0, crcOffset)), true)
  return bytes
}
const message = (bytes: Uint8Array): string => {
  const result = parse(bytes)
  return Result.isFailure(result) ? result.failure.message : "accepted"
}

describe("PgControl", () => {
  it("a control file of PostgreSQL 17 is read", () => {
    assert.deepStrictEqual<PgControl>(Result.getOrThrow(parse(file())), {
      majors: [17],
      systemIdentifier: 7710583263231832696n,
      controlVersion: 1700,
      catalogVersion: 202406281,
      state: "shut down",
      checkPoint: Lsn.fromBigInt(0x14d89f0n),
      redo: Lsn.fromBigInt(0x14d89f0n),
      timeline: 1,
      walBlockSize: 8192,
      walSegmentSize: 16777216
    })
  })

  it.each([
    [1300, 288, [14, 15, 16]],
    [1800, 292, [18]]
  ])("the layout of version %i has its checksum at %i", (version, crcOffset, majors) => {
    assert.deepStrictEqual<unknown>(Result.getOrThrow(parse(seal(file(), version, crcOffset))).majors, majors)
  })

  it("a file that is damaged, foreign or short is refused", () => {
    const damaged = file()
    damaged[41] = 7
    assert.strictEqual(message(damaged), "pg_control: wrong checksum")
    assert.strictEqual(message(seal(file(), 1900, 288)), "pg_control: version 1900 is not one of 1300, 1700, 1800")
    assert.strictEqual(message(new Uint8Array(100)), "pg_control: 100 bytes are too few")
    const odd = file()
    odd[16] = 9
    assert.strictEqual(message(seal(odd, 1700, 288)), "pg_control: unknown state 9")
  })

  it("the checksum is CRC-32C", () => {
    assert.strictEqual(crc32c(new TextEncoder().encode("123456789")), 0xe3069283)
  })

  it("a cluster can be marked as still running, and nothing else changes", () => {
    const before = file()
    const after = Result.getOrThrow(withState(before, "in production"))
    const { state, ...rest } = Result.getOrThrow(parse(after))
    const { state: old, ...same } = Result.getOrThrow(parse(before))
    assert.deepStrictEqual([old, state], ["shut down", "in production"])
    assert.deepStrictEqual(rest, same)
    const changed = [...after.keys()].filter((at) => after[at] !== before[at])
    assert.deepStrictEqual(
      changed.filter((at) => at < 288 || at >= 292),
      [16]
    )
  })

  it.each([
    ["0/14D89F0", "0/14D8A68"],
    ["0/14FB1C8", "0/14FB240"],
    ["0/1501F90", "0/1502020"],
    ["0/1501F88", "0/1502000"],
    ["0/1FFFF90", "0/2000030"]
  ])("the WAL of a cluster with its shutdown checkpoint at %s ends at %s", (checkPoint, end) => {
    const control = { ...Result.getOrThrow(parse(file())), checkPoint: Lsn.parse(checkPoint) ?? Lsn.zero }
    assert.strictEqual(Lsn.format(endOfShutdownCheckpoint(control)), end)
  })
})
