/** The recordings of what the original answered, where they need no Postgres; test/e2e/golden.test.ts has the others. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Lsn from "../../src/domain/Lsn.ts"
import { mismatch, needsPostgres, type Recording, recordings, type State, title } from "../support/goldenHttp.ts"
import { type Call, computeId, eventsTo, newKey, ownKey, request, start, tenant, timeline, token } from "./harness.ts"

const concrete = (text: string): string =>
  text
    .replaceAll("{TENANT}", tenant)
    .replaceAll("{TIMELINE}", timeline)
    .replaceAll("{PORT}", "5432")
    .replaceAll(/\{ESK(\d)\}/gu, "127.0.0.1:500$1")
    .replaceAll("{EPS}", "127.0.0.1:6400")

/** Tokens that the notes speak of. */
const tokens: Readonly<Record<string, string | undefined>> = {
  "not a token": "Bearer abc",
  "two words": "Bearer abc def",
  "other key": `Bearer ${token(newKey(), { compute_id: computeId })}`,
  "other compute": `Bearer ${token(ownKey, { compute_id: "other" })}`
}

const callOf = ({ note = "", sent, "sent content-type": type }: Recording): Call => ({
  ...(sent === undefined
    ? {}
    : { body: sent.includes("\\xff") ? Buffer.from(sent.replace("\\xff", "\xff"), "latin1") : concrete(sent) }),
  headers: {
    ...(type === undefined || type === null ? {} : { "content-type": type }),
    ...(tokens[note] === undefined ? {} : { authorization: tokens[note] })
  }
})

const ask = async (recording: Recording, state: State) => {
  await using node = await start({ events: eventsTo[state] })
  // Nobody brings Postgres down here.
  await node.run(node.node.ended(Exit.succeed({ lsn: null })))
  if (recording.note === "no token") return await request(node.externalPort, recording.request)
  return await node[recording.server](recording.request, callOf(recording))
}

describe.each([
  ["empty", recordings("empty")],
  ["init", recordings("init-and-failed", "init")],
  ["failed", recordings("init-and-failed", "failed")],
  ["running", recordings("running").filter((recording) => !needsPostgres(recording))]
] as const)("a compute that is %s answers like the original", (state, all) => {
  it.each(all.map((recording) => [title(recording), recording] as const))("%s", async (_name, recording) => {
    expect(mismatch(recording, state, await ask(recording, state))).toBeUndefined()
  })
})

describe("a running primary is stopped like the original", () => {
  it.each(recordings("terminate").map((recording) => [recording.request, recording] as const))(
    "%s",
    async (_name, recording) => {
      await using node = await start({ events: eventsTo.running })
      const asked = node[recording.server](recording.request)
      const lsn = Lsn.parse("0/2000100") ?? null
      await node.run(
        Effect.gen(function* () {
          yield* node.node.terminateRequested
          yield* Effect.orDie(node.node.transition("stopped"))
          yield* node.node.ended(Exit.succeed({ lsn }))
        })
      )
      expect(mismatch(recording, "running", await asked)).toBeUndefined()
    }
  )
})

describe("the comparison", () => {
  it("notices another status, body and header", () => {
    const [first] = recordings("empty").filter(({ request }) => request === "GET /lfc/prewarm")
    if (first === undefined) throw new Error("it is not recorded any more")
    const json = { status: "not_prewarmed" }
    const good = {
      status: 200,
      headers: { "content-type": "application/json", "x-request-id": "a" },
      text: JSON.stringify(json),
      json
    }
    expect(mismatch(first, "empty", good)).toBeUndefined()
    expect(mismatch(first, "empty", { ...good, status: 202 })).toContain("not 200")
    expect(mismatch(first, "empty", { ...good, json: { status: "prewarming" } })).toContain(
      'not {"status":"not_prewarmed"}'
    )
    expect(mismatch(first, "empty", { ...good, headers: { "x-request-id": "a" } })).toContain(
      "content-type is undefined"
    )
  })
})
