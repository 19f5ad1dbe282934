/** Documents at random against a real server. */
import { assert, layer } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { AnyName } from "../../domain/catalog/names.ts"
import { takePicture } from "./picture.ts"
import { type Document, Server } from "./server.ts"

const verifiers = {
  none: null,
  md5: "2e7535f355c639573f1853ccec7a03d0",
  scram: `SCRAM-SHA-256$4096:AAAA$${"A".repeat(43)}=:${"B".repeat(43)}=`
}
const Verifier = Schema.Literals(["none", "md5", "scram"])

const Wish = Arbitrary.all({
  names: Arbitrary.array(AnyName, { minLength: 1, maxLength: 4 }),
  verifiers: Arbitrary.array(Arbitrary.schema(Verifier), { minLength: 4, maxLength: 4 }),
  databases: Arbitrary.array(AnyName, { maxLength: 2 })
})

layer(Server.vanilla, { excludeTestServices: true, timeout: 60_000 })("documents at random", (it) => {
  it.effect.prop(
    "applying twice sends nothing the second time, in whatever order, and everything can be dropped again",
    [Wish],
    ([wish]) =>
      Effect.gen(function* () {
        const { apply } = yield* Server
        yield* apply({})
        const empty = yield* takePicture
        const names = [...new Set(wish.names)]
        const databases = [...new Set(wish.databases)]
        const document: Document = {
          roles: names.map((name, index) => ({ name, encrypted_password: verifiers[wish.verifiers[index] ?? "none"] })),
          databases: databases.map((name, index) => ({ name, owner: names[index % names.length] }))
        }
        yield* apply(document)
        assert.deepStrictEqual((yield* apply(document)).results, [])
        const turned = { roles: document.roles?.toReversed() ?? [], databases: document.databases?.toReversed() ?? [] }
        assert.deepStrictEqual((yield* apply(turned)).results, [])
        assert.deepStrictEqual((yield* apply(document, { mode: "full" })).results, [])
        yield* apply({
          deltas: [
            ...databases.map((name) => ({ action: "delete_db", name })),
            ...names.map((name) => ({ action: "delete_role", name }))
          ]
        })
        assert.deepStrictEqual(yield* takePicture, empty)
      }),
    { arbitrary: { runs: 15 }, timeout: 120_000 }
  )
})
