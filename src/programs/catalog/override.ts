/**
 * Limits that are lifted while we work on the catalogs, and the reloads around that.
 *
 * A file of PGDATA that postgresql.conf includes last holds them; it is empty, and Postgres has read that, when the work
 * ends, however it ends (decision C11). Source: reference/startup §16.
 */
import { constants } from "node:fs"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { describeLine } from "../../domain/describe.ts"
import { appendLine, confFile, temporaryOverrideFile } from "../../domain/PostgresConf.ts"
import { Owner } from "../../layers/Owner.ts"
import { Params } from "../../layers/Params.ts"
import { PgError } from "../../layers/PgWire.ts"
import { Sql } from "../../layers/Sql.ts"

/** A file of PGDATA could not be written. */
export class OverrideFailed extends Data.TaggedError("OverrideFailed")<{
  readonly message: string
  readonly cause: unknown
}> {}

const lifted = "neon.max_cluster_size=-1"
const subscribersOn = "neon.disable_logical_replication_subscribers=false"

/** Postgres reads its files within this time after SIGHUP. */
const reloadLimit = Duration.seconds(10)
const pollInterval = Duration.millis(5)

/** Writes a file of PGDATA, through no link. */
const write = (name: string, change: (old: string) => string | undefined) =>
  Effect.gen(function* () {
    const { pgdata } = yield* Params
    const { user } = yield* Owner
    const path = join(pgdata, name)
    return yield* Effect.tryPromise({
      try: async () => {
        const { O_CREAT, O_NOFOLLOW, O_RDWR } = constants
        const file = await fs.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600)
        try {
          const old = await file.readFile("utf8")
          const text = change(old)
          if (text === undefined) return false
          await file.truncate(0)
          await file.write(text, 0)
          if (user !== undefined) await file.chown(user.uid, user.gid)
          return true
        } finally {
          await file.close()
        }
      },
      catch: (cause) => new OverrideFailed({ message: `cannot write ${path}`, cause })
    })
  })

/** Asks for a reload and waits until a session has seen it. */
export const reloadConfirmed = (reload: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const sql = yield* Sql
    const session = yield* sql.connect({ use: "reconfigure" })
    const loadTime = Effect.map(session.query("SELECT pg_catalog.pg_conf_load_time()"), ([set]) => set?.rows[0]?.[0])
    const before = yield* loadTime
    yield* reload
    while ((yield* loadTime) === before) yield* Effect.sleep(pollInterval)
  }).pipe(
    Effect.scoped,
    Effect.timeoutOrElse({
      duration: reloadLimit,
      orElse: () =>
        Effect.fail(
          new PgError({ message: `Postgres did not read its configuration within ${Duration.format(reloadLimit)}` })
        )
    }),
    Effect.withSpan("pg_reload_conf")
  )

/** Runs work with the limits lifted. */
export const withLimitsLifted =
  (reload: Effect.Effect<void>) =>
  <A, E, R>(work: Effect.Effect<A, E, R>) =>
    Effect.acquireUseRelease(
      write(temporaryOverrideFile, () => lifted),
      () => Effect.andThen(reloadConfirmed(reload), work),
      () =>
        write(temporaryOverrideFile, () => "").pipe(
          Effect.andThen(reloadConfirmed(reload)),
          Effect.catch((error) =>
            Effect.logError(
              `limits may still be lifted, because ${temporaryOverrideFile} could not be taken back: ${describeLine(error)}`
            )
          )
        )
    )

/** From the next reload on, workers of subscriptions run. */
export const letSubscribersRun = Effect.gen(function* () {
  if (!(yield* write(confFile, (old) => appendLine(old, subscribersOn)))) return
  yield* Effect.logInfo(`updated ${confFile} to set ${subscribersOn}`)
})
