/**
 * The commands that ask a running node: `status`, `timeline`, `reconcile`, `configure`, `refresh`, `terminate`, `metrics`.
 *
 * They are users of the typed client like others. Exit code 0: done; 1: refused or failed, with the node's own message.
 */
import { STATUS_CODES } from "node:http"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { isDocument } from "../../http/client/configuration.ts"
import { type Client, make } from "../../http/client/effectClient.ts"
import { type ApiError, type CommonError, statusOf } from "../../http/client/errors.ts"
import { readDocument, UnusableConfig } from "../../programs/catalog/readConfig.ts"
import { lines } from "../printable.ts"
import { parseMetrics, showMetrics } from "./metrics.ts"
import type { Action, OperatorParams } from "./params.ts"
import { showReconcile } from "./showReconcile.ts"
import { showStatus } from "./showStatus.ts"
import { showTimeline } from "./showTimeline.ts"
import { duration, type Screen, screen } from "./terminal.ts"
import { watch } from "./watch.ts"

type Failure = ApiError | CommonError | UnusableConfig

/** What a command prints: a document for programs, lines for people. */
interface Output {
  readonly document: unknown
  readonly lines: ReadonlyArray<string>
}

/** Columns of what is no terminal, or does not say. */
const usualWidth = 100

/** Everything but `--watch`, which prints more than once. */
const ask = (action: Action, client: Client, on: Screen): Effect.Effect<Output, Failure> =>
  Effect.gen(function* () {
    const begun = yield* Clock.currentTimeMillis
    switch (action._tag) {
      case "status": {
        const answer = yield* client.status()
        return { document: answer, lines: showStatus(on, answer, yield* Clock.currentTimeMillis) }
      }
      case "timeline": {
        const answer = yield* client.timeline()
        return { document: answer, lines: showTimeline(on, answer, yield* Clock.currentTimeMillis) }
      }
      case "reconcile": {
        const answer = yield* client.reconcile()
        return { document: answer, lines: showReconcile(on, answer) }
      }
      case "configure": {
        const document = yield* readDocument(action.file)
        if (!isDocument(document)) {
          return yield* new UnusableConfig({ field: undefined, message: "Expected an object" })
        }
        const answer = yield* client.configure(document)
        const done = yield* Clock.currentTimeMillis
        return {
          document: answer,
          lines: [`applied in ${duration(done - begun)}`, ...showStatus(on, answer, done)]
        }
      }
      case "refresh": {
        yield* client.internal.refreshConfiguration()
        return {
          document: {},
          lines: ["asked to fetch its configuration: `compute_ctl status --watch` shows the rest"]
        }
      }
      case "terminate": {
        const answer = yield* client.terminate({ mode: action.mode })
        const position = answer.lsn === null ? "" : `, safekeepers are synced up to ${answer.lsn}`
        return { document: answer, lines: [`Postgres is down${position}`] }
      }
      case "metrics": {
        const families = parseMetrics(yield* client.prometheus())
        return { document: families, lines: showMetrics(families) }
      }
    }
  })

/** `412 Precondition Failed: …`, and what may help. */
const explain = (error: Failure, { action, token }: OperatorParams): string => {
  if (error._tag === "UnusableConfig") {
    const file = action._tag === "configure" ? action.file : ""
    return `${file === "-" ? "standard input" : file}: ${error.message}`
  }
  const status = statusOf(error)
  const refusal = status === undefined ? "" : `${status} ${STATUS_CODES[status] ?? ""}`.trimEnd()
  const hint =
    token === undefined && /\btoken\b/u.test(error.message) ? " (give one with --token or in COMPUTE_CTL_TOKEN)" : ""
  return `${refusal === "" ? "" : `${refusal}: `}${error.message}${hint}`
}

const write = (text: string): void => void process.stdout.write(text)

/** Runs the command; the value is the exit code. */
export const main = (params: OperatorParams): Effect.Effect<number> => {
  const { action, internalUrl, json, plain, token, url } = params
  const terminal = process.stdout.isTTY === true
  const on = screen({ colours: terminal && !plain, columns: process.stdout.columns || usualWidth })
  const program = Effect.gen(function* () {
    const client = yield* make({ url, internalUrl, ...(token === undefined ? {} : { token }) })
    if (action._tag === "status" && action.watch) {
      yield* watch(client.status(), { screen: on, redraw: terminal && !json, json, write })
      return 0
    }
    const output = yield* ask(action, client, on)
    write(json ? `${JSON.stringify(output.document, null, 2)}\n` : output.lines.map((line) => `${line}\n`).join(""))
    return 0
  })
  return program.pipe(
    Effect.catch((error) =>
      Effect.sync(() => {
        process.stderr.write(`compute_ctl ${action._tag}: ${lines(explain(error, params)).join("\n")}\n`)
        return 1
      })
    ),
    Effect.provide(NodeHttpClient.layerNodeHttp)
  )
}
