/**
 * `compute_ctl local move`: asks the local mode that runs to move its timeline to another pageserver, and shows what
 * came of it.
 */
import * as http from "node:http"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { describe } from "../domain/describe.ts"
import type { LocalMoveParams } from "../domain/LocalParams.ts"
import * as controlFile from "../local/controlFile.ts"
import { MoveReport } from "../local/MoveReport.ts"
import { MigrateRequest, migratePath } from "../local/StorageController.ts"
import { dataDirOf } from "./localPlace.ts"

/** The local mode refuses, or ends meanwhile. */
class NotMoved extends Data.TaggedError("NotMoved")<{ readonly message: string; readonly cause?: unknown }> {}

/** Other moves go first; each has its own deadline. */
const answerLimit = "2 minutes"

const Refusal = Schema.fromJsonString(Schema.Struct({ error: Schema.String }))
const decodeRefusal = Schema.decodeUnknownEffect(Refusal)
const decodeReport = Schema.decodeUnknownEffect(Schema.fromJsonString(MoveReport))
const encodeRequest = Schema.encodeSync(MigrateRequest)

const put = (url: string, token: string, body: string) =>
  Effect.callback<{ readonly status: number; readonly text: string }, NotMoved>((resume) => {
    const fail = (cause: Error): void =>
      resume(Effect.fail(new NotMoved({ message: "the local mode does not answer", cause })))
    const request = http.request(url, {
      method: "PUT",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      agent: false
    })
    request.on("error", fail)
    request.on("response", (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (chunk) => {
        text += String(chunk)
      })
      response.on("error", fail)
      response.on("end", () => resume(Effect.succeed({ status: response.statusCode ?? 0, text })))
    })
    request.end(body)
    return Effect.sync(() => void request.destroy())
  }).pipe(
    Effect.timeoutOrElse({
      duration: answerLimit,
      orElse: () => Effect.fail(new NotMoved({ message: `the local mode does not answer within ${answerLimit}` }))
    })
  )

const row = (name: string, value: string): string => `  ${name.padEnd(12)}${value}`

/** What the terminal shows. */
const textOf = ({ from, live_after, postmaster, problem, timeline_id, to }: MoveReport): string => {
  if (from.id === to.id) return `timeline ${timeline_id} is on pageserver ${to.id} already, at ${to.url}`
  const same = postmaster?.before === postmaster?.after
  return [
    `timeline ${timeline_id} was moved from pageserver ${from.id} to pageserver ${to.id}`,
    "",
    row("from", from.url),
    row("to", to.url),
    ...(live_after === null
      ? []
      : [row("live after", `${live_after.toFixed(1)} ms, in a session that was open before the move`)]),
    ...(postmaster === null
      ? []
      : [row("postmaster", same ? `${postmaster.after}, the same` : `${postmaster.before}, now ${postmaster.after}`)]),
    ...(problem === null ? [] : [row("but", problem)])
  ].join("\n")
}

const move = Effect.fnUntraced(function* (params: LocalMoveParams) {
  const { tenant_id, token, url } = yield* controlFile.find(dataDirOf(params))
  const request = encodeRequest({ node_id: params.to ?? null })
  const { status, text } = yield* put(`${url}${migratePath(tenant_id)}`, token, request)
  if (status !== 200) {
    const { error } = yield* decodeRefusal(text)
    return yield* new NotMoved({ message: error })
  }
  const report = yield* decodeReport(text)
  process.stdout.write(`${textOf(report)}\n`)
  return report.problem === null ? 0 : 1
})

/** Runs the command; the value is the exit code. */
export const main = (params: LocalMoveParams): Effect.Effect<number> =>
  move(params).pipe(
    Effect.catch((error) =>
      Effect.sync(() => {
        process.stderr.write(`compute_ctl local move: ${describe(error)}\n`)
        return 1
      })
    )
  )
