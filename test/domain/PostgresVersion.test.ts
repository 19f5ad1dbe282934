import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { parse } from "../../src/domain/PostgresVersion.ts"

describe("PostgresVersion", () => {
  it.each([
    ["PostgreSQL 15.4", 15],
    ["PostgreSQL 15.14", 15],
    ["PostgreSQL 15.4 (Ubuntu 15.4-0ubuntu0.23.04.1)", 15],
    ["PostgreSQL 14.0", 14],
    ["PostgreSQL 14.9 (Debian 14.9-1.pgdg120+1", 14],
    ["PostgreSQL 16devel", 16],
    ["PostgreSQL 16beta1", 16],
    ["PostgreSQL 16rc2", 16],
    ["PostgreSQL 16extra", 16],
    ["PostgreSQL 17.5\n", 17],
    ["PostgreSQL 18.1", 18]
  ])("S-007 %j is a Postgres %i", (text, major) => {
    assert.strictEqual(Result.getOrThrow(parse(text)), major)
  })

  it.each(["PostgreSQL 14", "PostgreSQL 13.2", "PostgreSQL 19devel", "PostgreSQL 170.1", "psql 15.4", ""])(
    "%j is refused, and the message names it",
    (text) => {
      const result = parse(text)
      assert.strictEqual(Result.isFailure(result) && result.failure.message, `unsupported postgres version ${text}`)
    }
  )
})
