/** `GET /reconcile` for people. */
import type { ReconcileResponse } from "../../http/client/documents.ts"
import { lines, oneLine } from "../printable.ts"
import { columns, duration, type Screen, time } from "./terminal.ts"

const indented = (texts: ReadonlyArray<string>): ReadonlyArray<string> => texts.map((text) => `  ${text}`)

const section = (title: string, texts: ReadonlyArray<string>): ReadonlyArray<string> =>
  texts.length === 0 ? [] : ["", title, ...indented(texts)]

type Apply = NonNullable<ReconcileResponse["last_apply"]>

const showApply = ({ paint }: Screen, apply: Apply): ReadonlyArray<string> => {
  const done = Object.entries(apply.counts).map(([name, count]) => [oneLine(name), String(count)])
  const state =
    apply.error !== null ? paint("red", "failed") : paint("green", done.length === 0 ? "nothing to do" : "done")
  const failed = apply.failures.map(({ database, message, object, operation, outcome, sqlstate }) => {
    const why = [sqlstate, message].filter((part) => part !== null).join(" ")
    return oneLine(`${operation} ${object} in ${database}: ${outcome}${why === "" ? "" : `, ${why}`}`)
  })
  return [
    `${state}, ${apply.mode} apply at ${time(apply.started_at)}, took ${duration(apply.duration_ms)}`,
    ...(apply.error === null ? [] : indented(lines(apply.error))),
    ...section("Operations", columns(done, [1])),
    ...section(paint("red", "Not done"), failed),
    ...section(paint("yellow", "Warnings"), apply.warnings.map(oneLine))
  ]
}

export const showReconcile = (screen: Screen, answer: ReconcileResponse): ReadonlyArray<string> => [
  ...(answer.last_apply === null ? ["nothing was applied by this process yet"] : showApply(screen, answer.last_apply)),
  ...section(screen.paint("yellow", "Waiting for a restart of Postgres"), answer.pending_restart.map(oneLine))
]
