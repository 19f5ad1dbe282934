/** The recordings of what the original answered, where no decision says otherwise. */
import { readFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as Lsn from "../../src/domain/Lsn.ts"
import { type Call, eventsTo, start, tenant, timeline } from "./harness.ts"

const Recording = Schema.Struct({
  request: Schema.String,
  server: Schema.Literals(["external", "internal"]),
  status: Schema.Int,
  headers: Schema.Record(Schema.String, Schema.String),
  body: Schema.Unknown,
  note: Schema.optionalKey(Schema.String),
  sent: Schema.optionalKey(Schema.String),
  "sent content-type": Schema.optionalKey(Schema.NullOr(Schema.String))
})
type Recording = typeof Recording.Type

const recordings = (name: string): ReadonlyArray<Recording> =>
  Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Array(Recording)))(
    readFileSync(new URL(`../golden/http/${name}.json`, import.meta.url), "utf8")
  )

/** Ours says 503 where there is no Postgres, and asks Postgres itself whether it is alive. */
const differs = [/^GET \/database_schema\?/u, /^GET \/hadron_liveness_probe$/u]

/** Our own words behind these, with the place of the problem. */
const ownWords = /^(failed to (?:parse the request body as json|deserialize the json body into the target type): )/u

/** Headers of one answer only, or of a server. */
const ignored = ["x-request-id", "content-length", "transfer-encoding"]

const concrete = (text: string): string =>
  text
    .replaceAll("{TENANT}", tenant)
    .replaceAll("{TIMELINE}", timeline)
    .replaceAll(/\{ESK(\d)\}/gu, "127.0.0.1:500$1")
    .replaceAll("{EPS}", "127.0.0.1:6400")

const callOf = ({ sent, "sent content-type": type }: Recording): Call => ({
  ...(sent === undefined
    ? {}
    : { body: sent.includes("\\xff") ? Buffer.from(sent.replace("\\xff", "\xff"), "latin1") : concrete(sent) }),
  headers: type === undefined || type === null ? {} : { "content-type": type }
})

describe("an empty compute answers like the original", () => {
  const known = recordings("empty").filter(({ request }) => !differs.some((pattern) => pattern.test(request)))

  it.each(known.map((recording) => [`${recording.request} ${recording.note ?? ""}`.trim(), recording] as const))(
    "%s",
    async (_name, recording) => {
      await using node = await start()
      const reply = await node[recording.server](recording.request, callOf(recording))
      expect(reply.status).toBe(recording.status)
      for (const [name, value] of Object.entries(recording.headers)) {
        if (ignored.includes(name)) expect(reply.headers[name] ?? "", name).not.toBe("")
        else expect(reply.headers[name], name).toBe(value)
      }
      const { body } = recording
      if (body === "") {
        // Without a body there, with the JSON error body here; HEAD has none.
        const isHead = recording.request.startsWith("HEAD")
        expect(reply.json).toEqual(isHead ? undefined : { error: expect.any(String) })
        return
      }
      const error = Schema.is(Schema.Struct({ error: Schema.String }))(body) ? body.error : undefined
      const prefix = error === undefined ? undefined : ownWords.exec(error)?.[1]
      if (prefix !== undefined) expect(reply.json).toEqual({ error: expect.stringMatching(`^${prefix}`) })
      else if (recording.request === "GET /status") {
        expect(reply.json).toEqual({ ...Object(body), start_time: "2026-11-21T08:49:07.987Z" })
      } else expect(reply.json).toEqual(body)
    }
  )
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
      const reply = await asked
      expect([reply.status, reply.json]).toEqual([recording.status, recording.body])
      expect(reply.headers["content-type"]).toBe(recording.headers["content-type"])
    }
  )
})
