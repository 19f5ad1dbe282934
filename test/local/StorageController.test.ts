import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { TenantId } from "../../src/domain/Identifiers.ts"
import { NoSuchPageserver } from "../../src/local/LocalStorage.ts"
import type { MoveReport } from "../../src/local/MoveReport.ts"
import * as StorageController from "../../src/local/StorageController.ts"

const tenantId = Schema.decodeUnknownSync(TenantId)("9e4c8f36063c6c6e93bc20d65a820f3d")
const path = `/control/v1/tenant/${tenantId}/migrate`

const report = (to: number | undefined): MoveReport => ({
  timeline_id: "814ce0bd2ae452e11575402e8296b64d",
  from: { id: 1, url: "postgresql://a" },
  to: { id: to ?? 2, url: "postgresql://b" },
  live_after: 3.5,
  postmaster: { before: "10", after: "10" },
  problem: null
})

const make = Effect.gen(function* () {
  const moves: Array<number | undefined> = []
  const { address } = yield* StorageController.make({
    tenantId,
    token: Redacted.make("secret"),
    move: (to) => {
      moves.push(to)
      return to === 9 ? Effect.fail(new NoSuchPageserver({ message: "no 9 here" })) : Effect.succeed(report(to))
    }
  })
  const ask = (body: string, { method = "PUT", token = "secret", url = path } = {}) =>
    Effect.promise(async () => {
      const headers = { authorization: `Bearer ${token}` }
      const answer = await fetch(`http://${address}${url}`, { method, headers, ...(method === "GET" ? {} : { body }) })
      return [answer.status, await answer.json()]
    })
  return { moves, ask }
})

describe("StorageController", () => {
  it.live("a move is asked for by PUT, and answered with the report", () =>
    Effect.gen(function* () {
      const { ask, moves } = yield* make
      assert.deepStrictEqual(yield* ask('{"node_id": 1}'), [200, report(1)])
      assert.deepStrictEqual(yield* ask('{"node_id": null}'), [200, report(undefined)])
      assert.deepStrictEqual(yield* ask('{"node_id": 9}'), [404, { error: "no 9 here" }])
      assert.deepStrictEqual(moves, [1, undefined, 9])
    })
  )

  it.live("who has no token, or asks for something else, is refused and moves nothing", () =>
    Effect.gen(function* () {
      const { ask, moves } = yield* make
      const body = '{"node_id": 1}'
      const status = (...call: Parameters<typeof ask>) => Effect.map(ask(...call), ([code]) => code)
      assert.strictEqual(yield* status(body, { token: "" }), 401)
      assert.strictEqual(yield* status(body, { token: "secret2" }), 401)
      assert.strictEqual(yield* status(body, { url: path.replace("9e", "9f") }), 404)
      assert.strictEqual(yield* status(body, { method: "GET" }), 405)
      for (const bad of ["", "{}", '{"node_id": "1"}', '{"node_id": -1}', '{"node_id": 1.5}', "x".repeat(20_000)]) {
        assert.strictEqual(yield* status(bad), 400, bad.slice(0, 20))
      }
      assert.deepStrictEqual(moves, [])
    })
  )
})
