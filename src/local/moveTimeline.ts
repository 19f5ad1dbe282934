/**
 * Moves the timeline to another pageserver while a compute runs on it, as a storage controller does.
 *
 * The storage moves first, then the control plane serves the new address, then the compute is told as the neon extension
 * tells it when its pageserver has turned it away: `POST /refresh_configuration`. (In production the extension does so
 * only where the spec sets `neon.lakebase_mode`.) A session that was opened before shows when the address is in force.
 */

import * as http from "node:http"
import { performance } from "node:perf_hooks"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import type { PostgresTarget } from "../domain/ConnString.ts"
import { describeLine } from "../domain/describe.ts"
import * as PgWire from "../layers/PgWire.ts"
import type { LocalStorage } from "./LocalStorage.ts"
import type { MoveReport } from "./MoveReport.ts"

/** A compute on the storage. */
export interface Compute {
  readonly computeId: string
  /** Its internal HTTP server. */
  readonly internalHttpPort: number
  /** As a superuser. */
  readonly postgres: PostgresTarget
}

/** The compute cannot be told, or does not follow. */
class NotFollowed extends Data.TaggedError("NotFollowed")<{ readonly message: string; readonly cause?: unknown }> {}

/** For one answer, as in the neon extension. */
const notifyLimit = "3 seconds"
const notifyPause = "20 millis"
const connectLimit = "3 seconds"
/** For the whole: some attempts of a refresh that fails are made within it. */
const followLimit = "20 seconds"
const pollMillis = 1

/** Address of the pageserver and pid of the postmaster, as a session sees them. */
const look = (session: PgWire.Session) =>
  session
    .query(
      "SELECT current_setting('neon.pageserver_connstring', true), split_part(pg_read_file('postmaster.pid'), E'\\n', 1)"
    )
    .pipe(Effect.map(([set]) => ({ url: set?.rows[0]?.[0], postmaster: set?.rows[0]?.[1] ?? "" })))

const post = (port: number) =>
  Effect.callback<number, NotFollowed>((resume) => {
    const fail = (cause: Error): void =>
      resume(Effect.fail(new NotFollowed({ message: "the compute cannot be told", cause })))
    const request = http.request({
      host: "localhost",
      port,
      method: "POST",
      path: "/refresh_configuration",
      agent: false
    })
    request.on("error", fail)
    request.on("response", (response) => {
      response.resume()
      resume(Effect.succeed(response.statusCode ?? 0))
    })
    request.end()
    return Effect.sync(() => void request.destroy())
  })

/** Tells a compute that its configuration may be stale. While it refreshes it answers 500, and has to be told again. */
const notify = (port: number) =>
  post(port).pipe(
    Effect.timeoutOrElse({
      duration: notifyLimit,
      orElse: () => Effect.fail(new NotFollowed({ message: "the compute cannot be told: it does not answer" }))
    }),
    Effect.repeat({ until: (status) => status !== 500, schedule: Schedule.spaced(notifyPause) }),
    Effect.filterOrFail(
      (status) => status === 200,
      (status) => new NotFollowed({ message: `the compute cannot be told: it answers ${status}` })
    )
  )

/** What the session sees once the address is that one. */
const follow = Effect.fnUntraced(function* (session: PgWire.Session, url: string) {
  while (true) {
    const seen = yield* look(session)
    if (seen.url === url) return seen
    yield* Effect.sleep(pollMillis)
  }
})

const inTime = <A, E>(work: Effect.Effect<A, E>) =>
  Effect.timeoutOrElse(work, {
    duration: followLimit,
    orElse: () =>
      Effect.fail(
        new NotFollowed({ message: `the compute has not taken the new address over in ${followLimit}: see /status` })
      )
  })

const tell = Effect.fnUntraced(function* (compute: Compute, session: PgWire.Session, url: string) {
  const before = yield* look(session)
  const notified = performance.now()
  const after = yield* inTime(Effect.andThen(notify(compute.internalHttpPort), follow(session, url)))
  return {
    live_after: performance.now() - notified,
    postmaster: { before: before.postmaster, after: after.postmaster }
  }
})

/** Without a session there is nobody to ask; the compute is told all the same. */
const tellUnseen = (compute: Compute, cause: PgWire.PgError) =>
  Effect.andThen(
    inTime(notify(compute.internalHttpPort)),
    Effect.fail(new NotFollowed({ message: "the compute was told, but Postgres cannot be asked", cause }))
  )

/** One move at a time; others wait. Its argument is the number of the pageserver, undefined for the next one. */
export const make = (storage: LocalStorage["Service"], compute: Compute) =>
  Effect.map(Semaphore.make(1), (moving) => {
    const { controlPlane, timelineId } = storage
    const serve = (): void => {
      const document = controlPlane.document(compute.computeId)
      const spec = document?.spec
      if (document === undefined || spec === undefined || spec === null) return
      controlPlane.attach(compute.computeId, {
        ...document,
        spec: { ...spec, pageserver_connection_info: storage.connectionInfo() }
      })
    }
    return Effect.fnUntraced(
      function* (wanted: number | undefined) {
        const session = yield* Effect.result(PgWire.connect({ target: compute.postgres, connectTimeout: connectLimit }))
        const { from, to } = yield* storage.move(wanted)
        const report: MoveReport = {
          timeline_id: timelineId,
          from: { id: from.id, url: from.url },
          to: { id: to.id, url: to.url },
          live_after: null,
          postmaster: null,
          problem: null
        }
        if (from === to) return report
        serve()
        return yield* (
          session._tag === "Success" ? tell(compute, session.success, to.url) : tellUnseen(compute, session.failure)
        ).pipe(
          Effect.map((seen): MoveReport => ({ ...report, ...seen })),
          Effect.catch((error) => Effect.succeed<MoveReport>({ ...report, problem: describeLine(error) }))
        )
      },
      Effect.scoped,
      moving.withPermit
    )
  })
