/**
 * Limits that are lifted while we work on the catalogs, and the reloads around that.
 *
 * A file of PGDATA that postgresql.conf includes last holds them; it is empty, and Postgres has read that, when the work
 * ends, however it ends (decision C11). Work that takes no room leaves them alone. Source: reference/startup §16.
 */
import { constants } from "node:fs"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { describeLine } from "../../domain/describe.ts"
import { appendLine, confFile, temporaryOverrideFile } from "../../domain/PostgresConf.ts"
import { DataDirectory } from "../../layers/DataDirectory.ts"
import { Owner } from "../../layers/Owner.ts"
import { Params } from "../../layers/Params.ts"
import { PgError, type Session } from "../../layers/PgWire.ts"
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
/** It takes one or two milliseconds, usually. */
const pollInterval = Duration.millis(1)
/** When nothing was seen for so long, the signal is sent again: the clock may have been set back. */
const seenLimit = Duration.seconds(3)

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

/** How Postgres is made to read its configuration. */
export interface Reloading {
  /** SIGHUP to the postmaster. */
  readonly reload: Effect.Effect<void>
  /** Told after each reload which settings have a new value that waits for a restart, by name. */
  readonly pendingRestart: (settings: ReadonlyArray<string>) => Effect.Effect<void>
}

/** What waits for a restart, by name, comma-separated; null as long as nothing was read since (milliseconds, epoch). */
const loaded = (since: number): string => `SELECT CASE
  WHEN pg_catalog.pg_conf_load_time() >= pg_catalog.to_timestamp(${(since / 1000).toFixed(3)}) THEN (
    SELECT COALESCE(pg_catalog.string_agg(name, ',' ORDER BY name), '') FROM pg_catalog.pg_settings WHERE pending_restart
  ) END`

/** Asks for a reload and waits until the session, which may be opened then, has seen it. */
const reloadSeen = <R>({ pendingRestart, reload }: Reloading, open: Effect.Effect<Session, PgError, R>) =>
  Effect.gen(function* () {
    const directory = yield* DataDirectory
    const confLoaded = yield* directory.loading
    let sentAt = performance.now()
    let since = Date.now() // the clock of the server, too
    yield* reload
    const session = yield* open
    while (true) {
      const [set] = yield* session.query(loaded(since))
      const names = set?.rows[0]?.[0]
      if (typeof names === "string") {
        yield* confLoaded
        return yield* pendingRestart(names.split(",").filter((name) => name !== ""))
      }
      if (performance.now() - sentAt > Duration.toMillis(seenLimit)) {
        sentAt = performance.now()
        since = Date.now()
        yield* reload
      }
      yield* Effect.sleep(pollInterval)
    }
  }).pipe(
    Effect.timeoutOrElse({
      duration: reloadLimit,
      orElse: () =>
        Effect.fail(
          new PgError({ message: `Postgres did not read its configuration within ${Duration.format(reloadLimit)}` })
        )
    }),
    Effect.withSpan("pg_reload_conf")
  )

/** Asks for a reload and waits until a session has seen it: one that is opened after it, so that nothing is in its way. */
export const reload = (reloading: Reloading) =>
  reloadSeen(
    reloading,
    Effect.flatMap(Sql, (sql) => sql.connect({ use: "reconfigure" }))
  ).pipe(Effect.scoped)

/** The limits hold from the next reload on. */
export const restoreLimits = write(temporaryOverrideFile, (old) => (old === "" ? undefined : ""))

/** Texts of postgresql.conf that mean the same once its catalogs are applied. */
export const withSubscribers = (conf: string): ReadonlyArray<string> => [conf, appendLine(conf, subscribersOn) ?? conf]

/** What changes of the configuration around the work on the catalogs; the session confirms each reload. */
export interface Configuration {
  /** Lifts the limits until the Scope is left; false: they are lifted already. */
  readonly liftLimits: Effect.Effect<boolean, OverrideFailed | PgError>
  /** Workers of subscriptions run from now on, or from the end of the Scope if limits are lifted. */
  readonly letSubscribersRun: Effect.Effect<void, OverrideFailed | PgError>
}

export const configuration = Effect.fnUntraced(function* (reloading: Reloading, session: Session) {
  const services = yield* Effect.context<Params | Owner | DataDirectory | Sql>()
  const seen = reloadSeen(reloading, Effect.succeed(session))
  let isLifted = false
  const takeBack = restoreLimits.pipe(
    // The session may be what broke.
    Effect.andThen(Effect.catch(seen, () => reload(reloading))),
    Effect.catch((error) =>
      Effect.logError(
        `limits may still be lifted, because ${temporaryOverrideFile} could not be taken back: ${describeLine(error)}`
      )
    )
  )
  yield* Effect.addFinalizer(() =>
    Effect.provideContext(
      Effect.suspend(() => (isLifted ? takeBack : Effect.void)),
      services
    )
  )
  const liftLimits = Effect.gen(function* () {
    if (isLifted) return false
    isLifted = true
    yield* write(temporaryOverrideFile, () => lifted)
    yield* seen
    return true
  })
  const letSubscribersRun = Effect.gen(function* () {
    if (!(yield* write(confFile, (old) => appendLine(old, subscribersOn)))) return
    yield* Effect.logInfo(`updated ${confFile} to set ${subscribersOn}`)
    if (!isLifted) yield* seen
  })
  const made: Configuration = {
    liftLimits: Effect.provideContext(liftLimits, services),
    letSubscribersRun: Effect.provideContext(letSubscribersRun, services)
  }
  return made
})
