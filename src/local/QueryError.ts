/**
 * How commands of the storage fail, and what a client reads of it: that depends on the kind of the error and on how the
 * client asked. Source: reference/storage-protocols §0.3.
 */
import * as Data from "effect/Data"

/** How a command was asked for: by Query, or by Parse and Execute. */
export type Protocol = "simple" | "extended"

/** A command failed. `message` is the outermost text, `causes` follow it, outermost first. */
export class QueryError extends Data.TaggedError("QueryError")<{
  readonly kind: "NotFound" | "Unauthorized" | "Other" | "Reconnect" | "Shutdown" | "Disconnected"
  readonly message: string
  readonly causes?: ReadonlyArray<string>
  /** In place of the SQLSTATE of the kind. */
  readonly sqlstate?: string
  /** Simple queries get the text that Execute gets. */
  readonly detailed?: boolean
}> {}

/** `closes`: a simple query ends the connection. */
const answers = {
  NotFound: { sqlstate: "XX000", simple: "not found", closes: false, prefix: "Not found: " },
  Unauthorized: { sqlstate: "XX000", simple: "JWT authentication error", closes: false, prefix: "Unauthorized: " },
  Other: { sqlstate: "XX000", simple: undefined, closes: false, prefix: "" },
  Reconnect: { sqlstate: "08006", simple: "reconnect", closes: true, prefix: "" },
  Shutdown: { sqlstate: "57P01", simple: "shutdown", closes: true, prefix: "" },
  Disconnected: { sqlstate: "08006", simple: undefined, closes: false, prefix: "" }
} as const

export interface Shown {
  readonly text: string
  readonly sqlstate: string
  /** The connection ends with it, without ReadyForQuery. */
  readonly closes: boolean
}

/** What the client reads. */
export const shown = (error: QueryError, protocol: Protocol): Shown => {
  const answer = answers[error.kind]
  const sqlstate = error.sqlstate ?? answer.sqlstate
  if (protocol === "extended" || error.detailed === true) {
    return { text: `${answer.prefix}${error.message}`, sqlstate, closes: false }
  }
  const text = answer.simple ?? [error.message, ...(error.causes ?? [])].join(": ")
  return { text, sqlstate, closes: answer.closes }
}
