/** What a start takes at least: `gzip -dc | tar x` of the same archive and a bare `postgres` on the result. */
import { readFileSync } from "node:fs"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import type { User } from "../../src/layers/Owner.ts"
import { fail, lines, start, within } from "./processes.ts"

const limit = "120 seconds"

const isReady = (pgdata: string): boolean => {
  try {
    return readFileSync(join(pgdata, "postmaster.pid"), "utf8").split("\n")[7]?.trim() === "ready"
  } catch {
    return false
  }
}

const ready = (pgdata: string) =>
  Effect.sync(() => isReady(pgdata)).pipe(
    Effect.tap((yes) => (yes ? Effect.void : Effect.sleep("1 millis"))),
    Effect.repeat({ until: (yes) => yes })
  )

/**
 * Milliseconds of each step.
 *
 * @param pgdata must not exist
 * @param conf text of postgresql.conf: the one that compute_ctl has written for the same archive
 */
export const floor = Effect.fnUntraced(function* (options: {
  readonly archive: string
  readonly pgdata: string
  readonly postgres: string
  readonly conf: string
  readonly user: User | undefined
}) {
  const { pgdata, user } = options
  const asUser = user === undefined ? {} : { uid: user.uid, gid: user.gid }
  yield* Effect.promise(async () => {
    await fs.mkdir(pgdata, { mode: 0o700 })
    if (user !== undefined) await fs.chown(pgdata, user.uid, user.gid)
  })

  const tar = yield* start(
    "sh",
    ["-c", 'gzip -dc "$1" | tar x -C "$2"', "sh", options.archive, pgdata],
    { ...asUser, cwd: "/", env: { PATH: "/usr/bin:/bin" }, stdio: ["ignore", "ignore", "inherit"] },
    [["SIGTERM", "5 seconds"]]
  )
  const unpacked = yield* tar.exited.pipe(within(limit, "tar did not end"))
  if (unpacked.code !== 0) return yield* fail(`tar ended with code ${unpacked.code}`)
  yield* Effect.promise(() => fs.writeFile(join(pgdata, "postgresql.conf"), options.conf))

  const postmaster = yield* start(
    options.postgres,
    ["-D", pgdata],
    { ...asUser, cwd: "/", env: { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8" }, stdio: ["ignore", "ignore", "pipe"] },
    [
      ["SIGINT", "20 seconds"],
      ["SIGQUIT", "10 seconds"]
    ]
  )
  const log = lines(postmaster.child.stderr)
  const died = Effect.flatMap(postmaster.exited, ({ code }) => fail(`postgres ended with code ${code}:\n${log.tail()}`))
  yield* Effect.raceFirst(ready(pgdata), died).pipe(within(limit, "postgres did not get ready"))
  const readyAt = performance.now()
  yield* postmaster.signal("SIGINT")
  const stopped = yield* postmaster.exited.pipe(within(limit, "postgres did not stop"))
  return {
    untar: unpacked.at - tar.started,
    postgres: readyAt - postmaster.started,
    stop: stopped.at - readyAt
  }
})
