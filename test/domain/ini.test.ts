import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { withSettings } from "../../src/domain/ini.ts"

const text = `; pgbouncer
[databases]
* = host=localhost
pool_mode = of another section

[pgbouncer]
listen_port=6432
;pool_mode = statement
pool_mode = transaction
pool_mode = twice

[users]
`

describe("settings of an INI file", () => {
  it("stand where they stood, else at the end of their section; the rest stays", () => {
    assert.deepStrictEqual(
      withSettings(text, "pgbouncer", { default_pool_size: "42", pool_mode: "session" }),
      Result.succeed(
        text.replace("pool_mode = transaction\npool_mode = twice\n", "pool_mode = session\ndefault_pool_size = 42\n")
      )
    )
  })

  it("are the same when they are set again", () => {
    const once = Result.getOrThrow(withSettings(text, "pgbouncer", { a: "1", pool_mode: "session" }))
    assert.strictEqual(Result.getOrThrow(withSettings(once, "pgbouncer", { a: "1", pool_mode: "session" })), once)
  })

  it.each([
    [{ a: "1\nauth_type = any" }, '"a" is no setting of one line'],
    [{ "[users]\nx": "1" }, String.raw`"[users]\nx" is no setting of one line`],
    [{ ";a": "1" }, '";a" is no setting of one line']
  ])("that would be something else are refused: %j", (settings, message) => {
    const refused = withSettings(text, "pgbouncer", settings)
    assert.strictEqual(Result.isFailure(refused) && refused.failure.message, message)
  })

  it("want their section", () => {
    const refused = withSettings("[databases]\n", "pgbouncer", { a: "1" })
    assert.strictEqual(Result.isFailure(refused) && refused.failure.message, "there is no section [pgbouncer]")
  })
})
