import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { makeJoiner } from "../../src/domain/PostgresLog.ts"

const stamp = "2026-03-01 09:30:00.123 GMT [7] "

/** Pushes lines and flushes at the end. */
const join = (lines: ReadonlyArray<string>, limit?: number): ReadonlyArray<string> => {
  const joiner = makeJoiner(limit)
  const complete = lines.map(joiner.push)
  return [...complete, joiner.flush()].filter((message) => message !== undefined)
}

describe("PostgresLog", () => {
  it("a message of several lines leaves as one", () => {
    assert.deepStrictEqual(
      join([`${stamp}ERROR:  no`, `${stamp}STATEMENT:  select`, "\t1", "\t+ 2", `${stamp}LOG:  done`]),
      [`PG:${stamp}ERROR:  no`, `PG:${stamp}STATEMENT:  select\u200B\t1\u200B\t+ 2`, `PG:${stamp}LOG:  done`]
    )
  })

  it("lines before the first time stamp are a message too", () => {
    assert.deepStrictEqual(join(["postgres: could not", "hint", `${stamp}LOG:  x`]), [
      "PG:postgres: could not\u200Bhint",
      `PG:${stamp}LOG:  x`
    ])
  })

  it("nothing held, nothing flushed", () => {
    const joiner = makeJoiner()
    assert.isUndefined(joiner.flush())
    joiner.push("x")
    assert.strictEqual(joiner.flush(), "PG:x")
    assert.isUndefined(joiner.flush())
  })

  it("a message is cut at the limit, and says how much was lost", () => {
    const joiner = makeJoiner(10)
    joiner.push("12345")
    joiner.push("6789")
    assert.strictEqual(joiner.push(`${stamp}x`), "PG:12345\u200B(7 bytes dropped)")
    assert.strictEqual(joiner.droppedBytes(), 7 + 3 + stamp.length + 1 - 10)
  })

  it("a cut never halves a character", () => {
    assert.deepStrictEqual(join(["aé😀b"], 6), ["PG:aé\u200B(5 bytes dropped)"])
    assert.deepStrictEqual(join(["aé😀b"], 9), ["PG:aé\u200B(5 bytes dropped)"])
    assert.deepStrictEqual(join(["aé😀b"], 10), ["PG:aé😀\u200B(1 bytes dropped)"])
    assert.deepStrictEqual(join(["aé😀b"], 11), ["PG:aé😀b"])
  })

  it.prop(
    "no byte is lost but what is counted",
    [Arbitrary.array(Arbitrary.schema(Schema.String)), Arbitrary.schema(Schema.Literals([8, 64, 65_536]))],
    ([lines, limit]) => {
      const joiner = makeJoiner(limit)
      const texts = lines.map((line) => line.toWellFormed().replaceAll("\uFEFF", ""))
      const messages = [...texts.map(joiner.push), joiner.flush()].filter((message) => message !== undefined)
      const bytes = (parts: ReadonlyArray<string>) => parts.reduce((sum, part) => sum + Buffer.byteLength(part), 0)
      const kept = bytes(messages.map((message) => message.replace(/\u200B\(\d+ bytes dropped\)$/u, "")))
      const pushed = bytes(texts) + 3 * messages.length + 3 * (texts.length - messages.length)
      assert.strictEqual(kept + joiner.droppedBytes(), pushed)
    }
  )
})
