import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { parseJson } from "../../src/domain/ComputeConfig.ts"

const message = (text: string): string => {
  const parsed = parseJson(text)
  return Result.isFailure(parsed) ? parsed.failure.message : "accepted"
}

describe("parseJson", () => {
  it.each([
    ["", "EOF while parsing a value at line 1 column 1"],
    ["nul", "expected value at line 1 column 1"],
    ["-", "expected value at line 1 column 1"],
    ["\uFEFF{}", "expected value at line 1 column 1"],
    ["{", "EOF while parsing an object at line 1 column 2"],
    ['{"a"', "EOF while parsing an object at line 1 column 5"],
    ['{"a":', "EOF while parsing a value at line 1 column 6"],
    ['{"a":1', "EOF while parsing an object at line 1 column 7"],
    ["[1", "EOF while parsing an array at line 1 column 3"],
    ['{"a":"b', "EOF while parsing a string at line 1 column 8"],
    ["{a:1}", "key must be a string at line 1 column 2"],
    ['{"a":1,}', "trailing comma at line 1 column 8"],
    ["[1,]", "trailing comma at line 1 column 4"],
    ["[1 2]", "expected `,` or `]` at line 1 column 4"],
    ['{"a":1 "b":2}', "expected `,` or `}` at line 1 column 8"],
    ['{"a":01}', "expected `,` or `}` at line 1 column 7"],
    ['{\n "a":1,\n  "b" 2}', "expected `:` at line 3 column 7"],
    ['{"a":"\n"}', "control character found while parsing a string at line 1 column 7"],
    ['{"a":"\\x"}', "invalid escape at line 1 column 7"],
    ['["\\ud800"]', "lone surrogate in a string at line 1 column 2"],
    ["{} {}", "trailing characters at line 1 column 4"],
    ["[]]", "trailing characters at line 1 column 3"]
  ])("%j is refused: %s", (text, expected) => {
    assert.strictEqual(message(text), expected)
  })

  it.each(['{"a":"\\ud83d\\ude00"}', '"\\\\ud800"', " [ ] ", '{"a":[{}],"b":{}}', "1e5"])("%j is accepted", (text) => {
    assert.strictEqual(message(text), "accepted")
  })

  it("what is nested deeper than any stack is refused without falling over", () => {
    assert.match(message("[".repeat(200_000)), /^EOF while parsing a value/u)
  })

  it("a secret in a broken document stays out of the message", () => {
    assert.notInclude(message('{"password": hunter2}'), "hunter2")
  })

  it.prop(
    "a document that lost its end is refused with a position",
    [Arbitrary.schema(Schema.Json), Arbitrary.schema(Schema.Natural)],
    ([value, at]) => {
      const text = JSON.stringify({ value }).replaceAll(/\\ud[89a-f][0-9a-f]{2}/gu, "?")
      const cut = text.slice(0, at % text.length)
      return / at line 1 column \d+$/u.test(message(cut)) && message(text) === "accepted"
    }
  )
})
