/**
 * Cold images: a cleanly stopped data directory as one gzip'd tar, which is at once what the store keeps and what a
 * base backup delivers. Streamed to disk, never whole in memory.
 *
 * Fails with: `NotPublishable` (the directory is no cleanly stopped cluster: trying again does not help), `ImageFailed`.
 * Source: reference/storage-protocols §8.3 recipe T.
 */
import { createWriteStream } from "node:fs"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import { createGzip } from "node:zlib"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { describeLine } from "../domain/describe.ts"
import * as PgControl from "../domain/PgControl.ts"
import { imageContents, listing, type Source, slotNames } from "./imageContents.ts"
import { tarStream } from "./tarStream.ts"

/** The directory holds no cluster that was stopped cleanly, or one that the storage cannot keep. */
export class NotPublishable extends Data.TaggedError("NotPublishable")<{
  readonly pgdata: string
  readonly message: string
}> {}

/** Reading the directory or writing the archive failed. */
export class ImageFailed extends Data.TaggedError("ImageFailed")<{
  readonly path: string
  readonly message: string
  readonly cause?: unknown
}> {}

/** A directory that can be published. */
export interface Stopped extends Source {
  /** It has replication slots. */
  readonly slots: boolean
}

export const refusal = (pgdata: string, why: string): NotPublishable =>
  new NotPublishable({ pgdata, message: `cannot publish ${pgdata}: ${why}` })

const imageFailed =
  (doing: string, path: string) =>
  (cause: unknown): ImageFailed =>
    new ImageFailed({ path, message: `${doing} ${path} failed: ${describeLine(cause)}`, cause })

const readControl = Effect.fnUntraced(function* (pgdata: string) {
  const bytes = yield* Effect.tryPromise({
    try: () => fs.readFile(join(pgdata, "global/pg_control")),
    catch: (cause) => refusal(pgdata, `global/pg_control cannot be read: ${describeLine(cause)}`)
  })
  const control = yield* Effect.fromResult(
    Result.mapError(PgControl.parse(bytes), ({ message }) => refusal(pgdata, message))
  )
  return { bytes, control }
})

/** Checks that a directory holds a cluster that was stopped cleanly, and reads its position. */
export const inspect = Effect.fnUntraced(function* (pgdata: string) {
  const { bytes, control } = yield* readControl(pgdata)
  if (control.state !== "shut down") {
    return yield* refusal(pgdata, `the server was not shut down cleanly, its state is "${control.state}"`)
  }
  const found = yield* Effect.tryPromise({
    try: async () => ({
      names: new Set((await listing(pgdata)).map(({ name }) => name)),
      version: await fs.readFile(join(pgdata, "PG_VERSION"), "utf8"),
      tablespaces: await listing(join(pgdata, "pg_tblspc")),
      slots: (await slotNames(pgdata)).length > 0
    }),
    catch: imageFailed("reading", pgdata)
  })
  if (found.names.has("postmaster.pid")) {
    return yield* refusal(pgdata, "postmaster.pid is there, so a server may be running")
  }
  const [tablespace] = found.tablespaces
  if (tablespace !== undefined) {
    return yield* refusal(pgdata, `user tablespaces are not supported (pg_tblspc/${tablespace.name})`)
  }
  const stopped: Stopped = {
    pgdata,
    major: Number.parseInt(found.version, 10),
    control,
    controlBytes: bytes,
    lsn: PgControl.endOfShutdownCheckpoint(control),
    slots: found.slots
  }
  return stopped
})

/**
 * Writes the archive of a stopped data directory to a new file, synced to disk. Where this fails or is interrupted, the
 * file may be left half written. A server that was started meanwhile is noticed at the end.
 */
export const write = Effect.fnUntraced(function* (options: {
  readonly source: Stopped
  readonly target: string
  /** Left out for standbys. */
  readonly slots: boolean
}) {
  const { source, target } = options
  const mtime = Math.floor((yield* Clock.currentTimeMillis) / 1000)
  yield* Effect.tryPromise({
    try: async (signal) =>
      pipeline(
        Readable.from(tarStream(source.pgdata, await imageContents(source, options.slots), mtime)),
        createGzip({ level: 1, chunkSize: 256 * 1024 }),
        createWriteStream(target, { flags: "wx", mode: 0o600, flush: true }),
        { signal }
      ),
    catch: imageFailed("making an image of", source.pgdata)
  })
  const after = yield* inspect(source.pgdata)
  if (!after.controlBytes.equals(source.controlBytes)) {
    return yield* refusal(source.pgdata, "a server was started in it meanwhile")
  }
})
