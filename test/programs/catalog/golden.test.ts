/** What the original made of the same documents, recorded on PostgreSQL 15. */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { migrate } from "../../../src/programs/catalog/migrate.ts"
import { takePicture } from "./picture.ts"
import { Server } from "./server.ts"

const Sections = Schema.Record(Schema.String, Schema.Array(Schema.String))
const Recording = Schema.fromJsonString(
  Schema.Struct({
    "after start": Schema.Union([Sections, Schema.String]),
    steps: Schema.Array(
      Schema.Struct({
        document: Schema.Struct({
          roles: Schema.Array(Schema.Unknown),
          databases: Schema.Array(Schema.Unknown),
          deltas: Schema.optionalKey(Schema.Array(Schema.Unknown))
        }),
        "what differs from the step before": Schema.optionalKey(Sections),
        refused: Schema.optionalKey(Schema.Int)
      })
    )
  })
)

const recording = (name: string) =>
  Effect.flatMap(
    Effect.promise(() => fs.readFile(join(import.meta.dirname, "../../golden/catalog", `${name}.json`), "utf8")),
    Schema.decodeUnknownEffect(Recording)
  )

/** Predefined roles differ between versions, and so do the privileges of tables (`MAINTAIN` since 17). */
const comparable = (section: string, lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines
    .filter((line) => section !== "roles" || !line.startsWith("pg_"))
    .filter((line) => section !== "memberships" || !/^pg_create_subscription\||^pg_\w+\|pg_/u.test(line))
    .filter((line) => !line.startsWith("neon|lfc_stub|") && !line.startsWith("neon_migration|catalog_state|"))
    .map((line) => line.replaceAll("t*m*", "t*"))
    .toSorted()

const compared = /^(?:roles|memberships|databases|health check rows)$|^(?:schemas|default privileges|relations) in /u

const check = (found: ReadonlyMap<string, ReadonlyArray<string>>, wanted: typeof Sections.Type) => {
  for (const [section, lines] of Object.entries(wanted)) {
    if (!compared.test(section)) continue
    assert.deepStrictEqual(comparable(section, found.get(section) ?? []), comparable(section, lines), section)
  }
}

const replay = (name: string) =>
  Effect.gen(function* () {
    const { apply, provide } = yield* Server
    const { steps } = yield* recording(name)
    yield* apply({})
    yield* provide(migrate("neon_superuser"))
    for (const step of steps) {
      const { databases, deltas, roles } = step.document
      const document = { roles, databases, deltas: deltas ?? [] }
      if (step.refused !== undefined) {
        const { report } = yield* Effect.flip(apply(document))
        assert.strictEqual(report?.failures[0]?.sqlstate, "42601")
        assert.strictEqual(report?.failures[0]?.object, 'role "creator"')
        continue
      }
      yield* apply(document)
      check(yield* takePicture, step["what differs from the step before"] ?? {})
      const again = yield* apply(document)
      assert.deepStrictEqual(again.results, [])
    }
  })

// A server for each recording: every one of them begins with an empty cluster.
for (const name of ["database-options", "delete", "rename", "role-options", "unicode", "role-options-that-conflict"]) {
  layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })((it) => {
    it.effect(`the recorded documents of ${name} end in the recorded catalogs`, () => replay(name), 60_000)
  })
}

layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })((it) => {
  it.effect(
    "S-093 S-094 the recorded documents of roles-and-databases end in the recorded catalogs",
    () =>
      Effect.gen(function* () {
        const { apply, provide } = yield* Server
        const wanted = (yield* recording("roles-and-databases"))["after start"]
        yield* apply({})
        yield* provide(migrate("neon_superuser"))
        check(yield* takePicture, typeof wanted === "string" ? {} : wanted)
        yield* replay("roles-and-databases")
      }),
    60_000
  )
})
