/**
 * The catalogue of one timeline on disk: `catalogue.json` and the archives that it names, in `bases/`.
 *
 * Written aside, synced, renamed. What it does not name is left over from something that did not get to its end.
 */
import * as fs from "node:fs/promises"
import { dirname, join } from "node:path"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { describeLine } from "../domain/describe.ts"
import * as Lsn from "../domain/Lsn.ts"

/** A file of the store cannot be read or written. */
export class StoreFailed extends Data.TaggedError("StoreFailed")<{
  readonly path: string
  readonly message: string
  readonly cause?: unknown
}> {}

/** An image. */
export const Base = Schema.Struct({
  /** Where WAL goes on behind it. */
  lsn: Lsn.Lsn,
  /** SHA-256 of its `pg_control`: tells two histories with one position apart. */
  control: Schema.String,
  /** It has replication slots, and a second archive without them for standbys. */
  slots: Schema.Boolean
})
export type Base = typeof Base.Type

const Catalogue = Schema.fromJsonString(
  Schema.Struct({
    pg_major: Schema.Natural,
    system_identifier: Schema.BigIntFromString,
    /** Oldest first. */
    bases: Schema.NonEmptyArray(Base),
    /** Data directory of the postmaster that writes to the timeline. */
    served_by: Schema.optionalKey(Schema.String)
  })
)
export type Catalogue = typeof Catalogue.Type

const decode = Schema.decodeUnknownEffect(Catalogue)
const encode = Schema.encodeEffect(Catalogue)

/** Runs a file operation; the failure names the path. */
export const attempt = <A>(doing: string, path: string, run: () => Promise<A>): Effect.Effect<A, StoreFailed> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) => new StoreFailed({ path, message: `${doing} ${path} failed: ${describeLine(cause)}`, cause })
  })

/** Whether a path leads to something. */
export const exists = (path: string): Effect.Effect<boolean> =>
  Effect.promise(() =>
    fs.stat(path).then(
      () => true,
      () => false
    )
  )

export const syncDirectory = async (path: string): Promise<void> => {
  const handle = await fs.open(path, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

const replaceFile = async (path: string, text: string): Promise<void> => {
  const aside = `${path}.part`
  await fs.writeFile(aside, text, { mode: 0o600, flush: true })
  await fs.rename(aside, path)
  await syncDirectory(dirname(path))
}

const catalogueFile = (folder: string): string => join(folder, "catalogue.json")

/** Folder of the archives. */
export const basesFolder = (folder: string): string => join(folder, "bases")

/** The archive of an image, with its slots or without. */
export const archivePath = (folder: string, base: Base, slots: boolean): string => {
  const name = base.lsn.toString(16).padStart(16, "0")
  return join(basesFolder(folder), `${name}${base.slots && !slots ? ".standby" : ""}.tar.gz`)
}

/** Both archives of an image, or the only one. */
export const archivePaths = (folder: string, base: Base): ReadonlyArray<string> =>
  base.slots ? [archivePath(folder, base, true), archivePath(folder, base, false)] : [archivePath(folder, base, true)]

/** Reads the catalogue; undefined where there is none. */
export const read = Effect.fnUntraced(function* (folder: string) {
  const path = catalogueFile(folder)
  if (!(yield* exists(path))) return undefined
  const text = yield* attempt("reading", path, () => fs.readFile(path, "utf8"))
  return yield* decode(text).pipe(
    Effect.mapError((cause) => new StoreFailed({ path, message: `${path} is no catalogue of this version`, cause }))
  )
})

export const write = Effect.fnUntraced(function* (folder: string, catalogue: Catalogue) {
  const text = yield* Effect.orDie(encode(catalogue))
  const path = catalogueFile(folder)
  yield* attempt("writing", path, () => replaceFile(path, text))
})

/** Removes what the catalogue does not name. */
export const sweep = (folder: string, bases: ReadonlyArray<Base>) =>
  attempt("cleaning", folder, async () => {
    const named = new Set(bases.flatMap((base) => archivePaths(folder, base)))
    for (const name of await fs.readdir(basesFolder(folder))) {
      const path = join(basesFolder(folder), name)
      if (!named.has(path)) await fs.rm(path, { force: true })
    }
  })
