/**
 * Archives in the form of a pageserver: GNU tar headers with empty owner fields, files 0600, directories 0755.
 *
 * Made as a stream; at most a few small files are in memory. Source: reference/storage-protocols §1.5.
 */
import { constants } from "node:fs"
import { type FileHandle, open } from "node:fs/promises"
import { join } from "node:path"

/** What goes into an archive; the content of a `file` is read from a folder. */
export type Entry =
  | { readonly kind: "directory"; readonly name: string }
  | { readonly kind: "file"; readonly name: string }
  | { readonly kind: "bytes"; readonly name: string; readonly content: Buffer }

/** Files up to this size are read at once, and ahead of the writer. */
const smallFile = 1024 * 1024
const filesAhead = 8
const blockBytes = 256 * 1024

const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, "0")}\0`

/** 512 bytes. `mtime` is in seconds. */
const header = (name: string, size: number, mode: number, mtime: number, type: "\0" | "5"): Buffer => {
  const bytes = Buffer.from(name, "utf8")
  if (bytes.length > 100) throw new RangeError(`the name is too long for a tar header: ${name}`)
  const out = Buffer.alloc(512)
  bytes.copy(out, 0)
  out.write(octal(mode, 7), 100, "latin1")
  out.write(octal(size, 11), 124, "latin1")
  out.write(octal(mtime, 11), 136, "latin1")
  out.fill(" ", 148, 156)
  out.write(type, 156, "latin1")
  out.write("ustar  \0", 257, "latin1")
  let sum = 0
  for (const byte of out) sum += byte
  out.write(octal(sum, 7), 148, "latin1")
  return out
}

/** What fills up the last block of a file. */
const padding = (size: number): Buffer => Buffer.alloc((512 - (size % 512)) % 512)

const endOfArchive = Buffer.alloc(1024)

type Loaded = { readonly size: number; readonly bytes: Buffer | FileHandle }

const load = async (folder: string, entry: Entry): Promise<Loaded> => {
  if (entry.kind === "directory") return { size: 0, bytes: Buffer.alloc(0) }
  if (entry.kind === "bytes") return { size: entry.content.length, bytes: entry.content }
  const handle = await open(join(folder, entry.name), constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const { size } = await handle.stat()
    if (size > smallFile) return { size, bytes: handle }
    const bytes = await handle.readFile()
    await handle.close()
    return { size: bytes.length, bytes }
  } catch (cause) {
    await handle.close()
    throw cause
  }
}

async function* read(handle: FileHandle, name: string, size: number): AsyncGenerator<Buffer> {
  try {
    let left = size
    while (left > 0) {
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(Math.min(left, smallFile)))
      if (bytesRead === 0) throw new Error(`${name} became shorter while it was read`)
      left -= bytesRead
      yield buffer.subarray(0, bytesRead)
    }
  } finally {
    await handle.close()
  }
}

/** The archive in pieces of any size. Files are opened a few ahead, so that the reader seldom waits for them. */
async function* pieces(folder: string, entries: ReadonlyArray<Entry>, mtime: number): AsyncGenerator<Buffer> {
  const ahead: Array<Promise<Loaded>> = []
  let next = 0
  const fill = (): void => {
    for (let entry = entries[next]; ahead.length < filesAhead && entry !== undefined; entry = entries[++next]) {
      const loading = load(folder, entry)
      // Whoever takes it out of the list sees its failure.
      loading.catch(() => {})
      ahead.push(loading)
    }
  }
  try {
    for (const entry of entries) {
      fill()
      const loading = ahead.shift()
      if (loading === undefined) return
      const { size, bytes } = await loading
      if (entry.kind === "directory") yield header(entry.name, 0, 0o755, mtime, "5")
      else {
        yield header(entry.name, size, 0o600, mtime, "\0")
        if (Buffer.isBuffer(bytes)) yield bytes
        else yield* read(bytes, entry.name, size)
        yield padding(size)
      }
    }
    yield endOfArchive
  } finally {
    for (const loading of ahead) {
      const loaded = await loading.catch(() => undefined)
      if (loaded !== undefined && !Buffer.isBuffer(loaded.bytes)) await loaded.bytes.close()
    }
  }
}

/** The archive of these entries, in blocks that are worth a call of a compressor. `mtime` is in seconds. */
export async function* tarStream(folder: string, entries: ReadonlyArray<Entry>, mtime: number): AsyncGenerator<Buffer> {
  let waiting: Array<Buffer> = []
  let bytes = 0
  for await (const piece of pieces(folder, entries, mtime)) {
    waiting.push(piece)
    bytes += piece.length
    if (bytes < blockBytes) continue
    yield Buffer.concat(waiting, bytes)
    waiting = []
    bytes = 0
  }
  yield Buffer.concat(waiting, bytes)
}
