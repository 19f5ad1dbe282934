/** The archive that the storage sends as base backup, taken apart and changed. */
import * as fs from "node:fs/promises"
import { gunzipSync, gzipSync } from "node:zlib"
import * as Effect from "effect/Effect"
import { newest } from "../../src/local/Store.ts"
import type { Bed } from "./bed.ts"
import { endOfArchive, entry } from "./tarball.ts"

export interface ImageEntry {
  /** Relative, directories without a slash at the end. */
  readonly name: string
  readonly directory: boolean
  readonly mode: number
  readonly content: Buffer
  /** Header and content as they stand in the archive. */
  readonly blocks: Buffer
}

const text = (block: Buffer, from: number, length: number): string =>
  block.toString("latin1", from, from + length).split("\0")[0] ?? ""

const entriesOf = (tar: Buffer): ReadonlyArray<ImageEntry> => {
  const entries: Array<ImageEntry> = []
  for (let at = 0; tar[at] !== 0; ) {
    const header = tar.subarray(at, at + 512)
    const size = Number.parseInt(text(header, 124, 12), 8)
    const end = at + 512 + Math.ceil(size / 512) * 512
    entries.push({
      name: text(header, 0, 100).replace(/\/$/u, ""),
      directory: text(header, 156, 1) === "5",
      mode: Number.parseInt(text(header, 100, 8), 8) & 0o7777,
      content: tar.subarray(at + 512, at + 512 + size),
      blocks: tar.subarray(at, end)
    })
    at = end
  }
  return entries
}

const archiveOf = (bed: Bed) =>
  Effect.map(bed.storage.store.timeline(bed.storage), (timeline) =>
    bed.storage.store.archive(timeline, newest(timeline), true)
  ).pipe(Effect.orDie)

/** What the next base backup of a primary holds. */
export const readImage = Effect.fnUntraced(function* (bed: Bed) {
  const path = yield* archiveOf(bed)
  return entriesOf(gunzipSync(yield* Effect.promise(() => fs.readFile(path))))
})

/** Compressed bytes of the next base backup. */
export const imageSize = (bed: Bed) =>
  Effect.flatMap(archiveOf(bed), (path) => Effect.promise(async () => (await fs.stat(path)).size))

/** Replaces or adds files of the next base backup; undefined removes one. */
export const changeImage = Effect.fnUntraced(function* (
  bed: Bed,
  changes: Readonly<Record<string, string | undefined>>
) {
  const path = yield* archiveOf(bed)
  const kept = (yield* readImage(bed)).filter(({ name }) => !(name in changes))
  const added = Object.entries(changes).flatMap(([name, content]) =>
    content === undefined ? [] : [entry({ name, content, style: "pageserver" })]
  )
  const tar = Buffer.concat([...added, ...kept.map(({ blocks }) => blocks), endOfArchive])
  yield* Effect.promise(() => fs.writeFile(path, gzipSync(tar, { level: 1 })))
})
