/**
 * Asks the safekeepers whether they agree already, so that no sync is needed before Postgres starts.
 *
 * All at once; the first quorum of answers or of failures decides, the probes still under way are then given up. Never
 * fails: a safekeeper that cannot be reached, or whose address is malformed, counts as one without an answer.
 *
 * Source: reference/startup §11.1, reference/storage-protocols §3.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Redacted from "effect/Redacted"
import type { PostgresTarget } from "../domain/ConnString.ts"
import { describeLine } from "../domain/describe.ts"
import type { TenantId, TimelineId } from "../domain/Identifiers.ts"
import * as Lsn from "../domain/Lsn.ts"
import { decide, type SafekeeperAnswer, type Verdict } from "../domain/SafekeeperQuorum.ts"
import { fairTimeoutOrElse } from "./fairTimeout.ts"
import * as PgWire from "./PgWire.ts"

/** For connecting and asking together (reference/startup §11.1). */
const probeTimeout = Duration.millis(100)

export type Decision = Exclude<Verdict, { readonly _tag: "Undecided" }>

export interface StatusRequest {
  readonly tenantId: TenantId
  readonly timelineId: TimelineId
  /** `host:port` each. */
  readonly safekeepers: ReadonlyArray<string>
  readonly token: Redacted.Redacted<string> | undefined
}

class ProbeFailed extends Data.TaggedError("ProbeFailed")<{ readonly message: string }> {}

/** An entry of the list; the host is a name, an IPv4 address, or an IPv6 address in brackets. */
const parseEntry = (entry: string): PostgresTarget | undefined => {
  const [, host, port] = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})$/u.exec(entry) ?? []
  if (host === undefined || Number(port) < 1 || Number(port) > 65535) return undefined
  return {
    host: host.replace(/^\[|\]$/gu, ""),
    port: Number(port),
    user: "no_user",
    database: undefined,
    password: undefined,
    options: undefined
  }
}

const readAnswer = (sets: ReadonlyArray<PgWire.ResultSet>): SafekeeperAnswer | undefined => {
  const set = sets.find(({ columns }) => columns.includes("flush_lsn") && columns.includes("commit_lsn"))
  if (set === undefined) return undefined
  const [row] = set.rows
  if (row === undefined) return { _tag: "Unknown" }
  const flush = Lsn.parse(row[set.columns.indexOf("flush_lsn")] ?? "")
  const commit = Lsn.parse(row[set.columns.indexOf("commit_lsn")] ?? "")
  return flush === undefined || commit === undefined ? undefined : { _tag: "Status", flush, commit }
}

const ask = Effect.fnUntraced(function* (entry: string, { tenantId, timelineId, token }: StatusRequest) {
  const target = parseEntry(entry)
  if (target === undefined) return yield* new ProbeFailed({ message: "expected host:port" })
  yield* Effect.logInfo(`connecting to ${entry}`)
  const session = yield* PgWire.connect({
    target,
    parameters: { options: `-c timeline_id=${timelineId} tenant_id=${tenantId}` },
    password: token
  })
  yield* Effect.logInfo(`querying ${entry}`)
  const answer = readAnswer(yield* session.query("TIMELINE_STATUS"))
  if (answer === undefined)
    return yield* new ProbeFailed({ message: "the answer to TIMELINE_STATUS is not understood" })
  yield* Effect.logInfo(`done with ${entry}`)
  return answer
}, Effect.scoped)

const probe = (entry: string, request: StatusRequest): Effect.Effect<SafekeeperAnswer> =>
  ask(entry, request).pipe(
    fairTimeoutOrElse({
      duration: probeTimeout,
      orElse: () => Effect.fail(new ProbeFailed({ message: `no answer within ${Duration.format(probeTimeout)}` }))
    }),
    Effect.catch((error) =>
      Effect.succeed<SafekeeperAnswer>({ _tag: "Failed", message: `safekeeper ${entry}: ${describeLine(error)}` })
    )
  )

const status = Effect.fn("Safekeepers.status")(function* (request: StatusRequest) {
  const total = request.safekeepers.length
  const answered = yield* Queue.unbounded<SafekeeperAnswer>()
  yield* Effect.forEach(
    request.safekeepers,
    (entry) => Effect.forkScoped(Effect.flatMap(probe(entry, request), (answer) => Queue.offer(answered, answer))),
    { discard: true }
  )
  const answers: Array<SafekeeperAnswer> = []
  while (true) {
    const verdict = decide(total, answers)
    if (verdict._tag !== "Undecided") return verdict
    answers.push(yield* Queue.take(answered))
  }
}, Effect.scoped)

export class Safekeepers extends Context.Service<
  Safekeepers,
  {
    /** The LSN that a quorum agrees on, or why there is none. */
    readonly status: (request: StatusRequest) => Effect.Effect<Decision>
  }
>()("compute/layers/Safekeepers") {
  static readonly layer = Layer.succeed(Safekeepers, Safekeepers.of({ status }))
}
