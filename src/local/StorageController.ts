/**
 * The emulated storage controller: `PUT /control/v1/tenant/TENANT/migrate` with `{"node_id": N}` moves the tenant.
 *
 * Where the original answers once the storage has moved, this one waits for the compute and answers with a report.
 */
import * as http from "node:http"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { describeLine } from "../domain/describe.ts"
import type { TenantId } from "../domain/Identifiers.ts"
import type { DataDirUnusable, NoSuchPageserver } from "./LocalStorage.ts"
import * as Listener from "./listener.ts"
import { MoveReport } from "./MoveReport.ts"

export interface Options {
  readonly tenantId: TenantId
  /** What callers must send as bearer token. */
  readonly token: Redacted.Redacted<string>
  /** A free one when left out. */
  readonly port?: number
  readonly move: (to: number | undefined) => Effect.Effect<MoveReport, NoSuchPageserver | DataDirUnusable>
}

/** Without a number: to the next pageserver. */
export const MigrateRequest = Schema.fromJsonString(Schema.Struct({ node_id: Schema.NullOr(Schema.Natural) }))

export const migratePath = (tenantId: TenantId): string => `/control/v1/tenant/${tenantId}/migrate`

interface Answer {
  readonly status: number
  readonly body: unknown
}

const decodeRequest = Schema.decodeUnknownResult(MigrateRequest)
const encodeReport = Schema.encodeSync(MoveReport)
const refusal = (status: number, error: string): Answer => ({ status, body: { error } })

const longestBody = 10_000

const readBody = async (request: http.IncomingMessage): Promise<string> => {
  let text = ""
  for await (const chunk of request.setEncoding("utf8")) {
    text += String(chunk)
    if (text.length > longestBody) throw new Error("the body is too long")
  }
  return text
}

export const make = (options: Options) => {
  const respond = Effect.fnUntraced(function* (request: http.IncomingMessage) {
    const bearer = /^Bearer (.*)$/u.exec(request.headers.authorization ?? "")?.[1]
    if (bearer !== Redacted.value(options.token)) return refusal(401, "the token is not that of this process")
    if (request.url !== migratePath(options.tenantId)) return refusal(404, `there is ${migratePath(options.tenantId)}`)
    if (request.method !== "PUT") return refusal(405, "use PUT")
    const wanted = yield* Effect.map(
      Effect.tryPromise(() => readBody(request)),
      decodeRequest
    )
    if (Result.isFailure(wanted)) return refusal(400, 'the body is to be {"node_id": N}')
    const report = yield* options.move(wanted.success.node_id ?? undefined)
    return { status: 200, body: encodeReport(report) }
  })

  const serve = (request: http.IncomingMessage, response: http.ServerResponse) =>
    respond(request).pipe(
      Effect.catchTags({
        NoSuchPageserver: (error) => Effect.succeed(refusal(404, error.message)),
        DataDirUnusable: (error) => Effect.succeed(refusal(500, error.message)),
        UnknownError: (error) => Effect.succeed(refusal(400, describeLine(error.cause)))
      }),
      Effect.flatMap(({ status, body }) =>
        Effect.sync(() => {
          response.writeHead(status, { "content-type": "application/json", connection: "close" })
          response.end(JSON.stringify(body))
        })
      )
    )

  return Listener.make({
    name: "storage controller",
    port: options.port,
    create: (fork) => http.createServer((request, response) => fork(serve(request, response)))
  })
}
