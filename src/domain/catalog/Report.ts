/** What an apply did, object by object. */
import type { Mode } from "./plan.ts"

export interface OperationResult {
  /** `role "alice"` */
  readonly object: string
  /** `create_role` */
  readonly operation: string
  /** Where it ran. */
  readonly database: string
  readonly outcome: "done" | "failed" | "skipped"
  /** SQLSTATE of a failure that the server reported. */
  readonly sqlstate: string | undefined
  /** Why it failed or was skipped. */
  readonly message: string | undefined
}

export interface Report {
  readonly mode: Mode
  /** Milliseconds since the Unix epoch. */
  readonly startedAt: number
  readonly millis: number
  /** Operations that were done, by their name. */
  readonly counts: Readonly<Record<string, number>>
  readonly failures: ReadonlyArray<OperationResult & { readonly outcome: "failed" | "skipped" }>
  /** Everything that was tried, in the order in which it ended. */
  readonly results: ReadonlyArray<OperationResult>
  readonly warnings: ReadonlyArray<string>
}

export const report = (
  started: Pick<Report, "mode" | "startedAt" | "millis" | "warnings">,
  results: ReadonlyArray<OperationResult>
): Report => {
  const counts: Record<string, number> = {}
  for (const { operation, outcome } of results) {
    if (outcome === "done") counts[operation] = (counts[operation] ?? 0) + 1
  }
  const failures = results.flatMap(({ outcome, ...result }) => (outcome === "done" ? [] : [{ ...result, outcome }]))
  return { ...started, counts, failures, results }
}

const line = ({ message, object, operation, sqlstate }: OperationResult): string =>
  `${operation} ${object}: ${message ?? "failed"}${sqlstate === undefined ? "" : ` (${sqlstate})`}`

/** Which objects failed and why; undefined when none did. */
export const failureText = ({ failures }: Report): string | undefined => {
  const failed = failures.filter(({ outcome }) => outcome === "failed")
  if (failed.length === 0) return undefined
  const skipped = failures.length - failed.length
  const more = skipped === 0 ? "" : `; ${skipped} more operation(s) were not tried because of that`
  return `the catalog could not be brought up to date: ${failed.map(line).join("; ")}${more}`
}
