/** The recordings of what the original answered with a running Postgres; test/http/golden.test.ts has the others. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { makeBed } from "../support/bed.ts"
import { mismatch, needsPostgres, recordings } from "../support/goldenHttp.ts"
import { catalog, configure } from "../support/reconfigure.ts"

const ofPostgres = recordings("running").filter(
  (recording) =>
    needsPostgres(recording) ||
    (/^GET \/(?:status|metrics\.json)$/u.test(recording.request) && recording.note === undefined)
)

it.live("a running primary answers like the original", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.run()
    const spec = yield* catalog(bed, node, {
      roles: [{ name: "alice" }],
      databases: [{ name: "app", owner: "alice" }]
    })
    expect((yield* configure(bed, node, { spec })).status).toBe(200)
    const wrong: Array<string> = []
    for (const recording of ofPostgres) {
      const answer = yield* node[recording.server](recording.request, {
        ...(recording.sent === undefined ? {} : { body: recording.sent })
      })
      const found = mismatch(recording, "running", answer)
      if (found !== undefined) wrong.push(found)
    }
    expect(ofPostgres.length).toBeGreaterThan(10)
    expect(wrong).toEqual([])
    yield* node.stop
  })
)
