/** What the original made of the same documents: see `recording.ts` for what may differ. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { migrate } from "../../../src/programs/catalog/migrate.ts"
import { recorded, takePicture } from "./picture.ts"
import { expected, recording } from "./recording.ts"
import { Server } from "./server.ts"

const replay = (name: string) =>
  Effect.gen(function* () {
    const server = yield* Server
    const { apply, provide } = server
    const { start, steps } = yield* recording(name)
    const empty = yield* takePicture(server)
    const check = Effect.fnUntraced(function* (wanted: typeof start, applied: number) {
      const documents = steps.slice(0, applied).map(({ document }) => document)
      assert.deepStrictEqual(recorded(yield* takePicture(server)), expected(wanted, empty, documents))
    })
    yield* apply({})
    yield* provide(migrate("neon_superuser"))
    yield* check(start, 0)
    for (const [index, { document, picture, refused }] of steps.entries()) {
      const { databases, deltas = [], roles } = document
      if (refused) {
        const { report } = yield* Effect.flip(apply({ roles, databases, deltas }))
        assert.strictEqual(report?.failures[0]?.sqlstate, "42601")
        assert.strictEqual(report?.failures[0]?.object, 'role "creator"')
        continue
      }
      yield* apply({ roles, databases, deltas })
      yield* check(picture, index + 1)
      assert.deepStrictEqual((yield* apply({ roles, databases, deltas })).results, [])
    }
  })

const recordings = [
  ["S-093 S-094", "roles-and-databases"],
  ["S-097", "database-options"],
  ["S-100", "delete"],
  ["S-102", "rename"],
  ["S-095", "role-options"],
  ["S-085", "role-options-that-conflict"],
  ["S-100", "unicode"]
] as const

// A server for each recording: every one of them begins with an empty cluster.
for (const [scenario, name] of recordings) {
  layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })((it) => {
    it.effect(`${scenario} the recorded documents of ${name} end in the recorded catalogs`, () => replay(name), 60_000)
  })
}
