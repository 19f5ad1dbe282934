/** `GET /status` for people. */
import { type ComputeStatus, display, isEnding } from "../../domain/ComputeStatus.ts"
import type { ComputeStatusResponse } from "../../http/client/documents.ts"
import { duration, fields, type Screen, time } from "./terminal.ts"

const style = (status: ComputeStatus) =>
  status === "running" ? "green" : status === "failed" || isEnding(status) ? "red" : "yellow"

/**
 * The status and what belongs to it, a line each.
 *
 * @param now milliseconds since the epoch, for "so long ago"; undefined: times alone, for a text that stays
 */
export const showStatus = (
  screen: Screen,
  answer: ComputeStatusResponse,
  now: number | undefined
): ReadonlyArray<string> => {
  const since = (text: string): string =>
    now === undefined ? time(text) : `${time(text)}, ${duration(now - Date.parse(text))} ago`
  const rows: Array<readonly [string, string]> = [["started", since(answer.start_time)]]
  if (answer.tenant !== null) rows.push(["tenant", answer.tenant])
  if (answer.timeline !== null) rows.push(["timeline", answer.timeline])
  if (answer.last_active !== null) rows.push(["active", since(answer.last_active)])
  if (answer.error !== null) rows.push(["error", answer.error])
  return [screen.paint(style(answer.status), display(answer.status)), ...fields(screen, rows)]
}
