import { describe, expect, it } from "@effect/vitest"
import * as Describe from "../../src/domain/describe.ts"

const chained = new Error("cannot start", { cause: new Error("no pageserver", { cause: new Error("refused") }) })

describe("the text of an error", () => {
  it("names its causes, on one line or below it", () => {
    expect(Describe.describeLine(chained)).toBe("cannot start: no pageserver: refused")
    expect(Describe.describe(chained)).toBe("cannot start\n\nCaused by:\n    0: no pageserver\n    1: refused")
    expect(Describe.describe(new Error("alone"))).toBe("alone")
  })

  it("does not repeat a cause that it ends with already", () => {
    const cause = new Error("no such directory")
    const error = new Error("cannot use /data: no such directory", { cause })
    expect(Describe.describe(error)).toBe("cannot use /data: no such directory")
    expect(Describe.describeLine(new Error("no such directory", { cause }))).toBe("no such directory")
  })
})
