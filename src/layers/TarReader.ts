/**
 * Takes a tar archive apart, piece by piece: GNU and POSIX formats, GNU long names, pax `path`, `size` and `mtime`.
 *
 * Synchronous and without copies: content is handed on as views of what was pushed. Blocks of zeros are skipped wherever
 * they are; an archive is whole when it ends with at least two of them. Owner fields are not looked at (a pageserver
 * leaves them NUL). Source: reference/storage-protocols §1.5.
 */
import * as Data from "effect/Data"

/** The archive is damaged or cut short. */
export class TarMalformed extends Data.TaggedError("TarMalformed")<{ readonly message: string }> {}

export type EntryKind = "file" | "directory" | "symlink" | "hard link" | "device" | "fifo" | "tar entry of unknown type"

export interface Entry {
  readonly name: string
  readonly kind: EntryKind
  /** Bytes of content that follow. */
  readonly size: number
  /** Permission bits. */
  readonly mode: number
  /** Seconds since the Unix epoch. */
  readonly mtime: number
}

export interface Receiver {
  readonly entry: (entry: Entry) => void
  /** A piece of the current entry's content: `bytes[from, to)`. */
  readonly content: (bytes: Buffer, from: number, to: number) => void
  /** The current entry's content is complete. */
  readonly done: () => void
}

const blockBytes = 512
/** Long names and pax headers are held in memory; real ones have some hundred bytes. */
const maxExtensionBytes = 1024 * 1024

const kinds: Readonly<Record<string, EntryKind>> = {
  "\0": "file",
  "0": "file",
  "7": "file",
  "5": "directory",
  "1": "hard link",
  "2": "symlink",
  "3": "device",
  "4": "device",
  "6": "fifo"
}
/** Headers about the entry that follows: GNU long name and long link, pax for one entry and for all. */
const isExtension = (type: string): boolean => type === "L" || type === "K" || type === "x" || type === "g"

const textField = (block: Buffer, at: number, length: number): string => {
  const nul = block.indexOf(0, at)
  return block.toString("utf8", at, nul < 0 || nul > at + length ? at + length : nul)
}

/** Octal digits, or a big-endian number marked by the highest bit; blank is 0, `undefined` is neither. */
const numberField = (block: Buffer, at: number, length: number): number | undefined => {
  const first = block.readUInt8(at)
  if ((first & 0x80) !== 0) {
    let value = first & 0x7f
    for (let i = at + 1; i < at + length; i++) value = value * 256 + block.readUInt8(i)
    return Number.isSafeInteger(value) ? value : undefined
  }
  const digits = textField(block, at, length).trim()
  if (digits === "") return 0
  return /^[0-7]+$/u.test(digits) ? Number.parseInt(digits, 8) : undefined
}

/** The sum of the header's bytes, its own field counted as blanks; old tars added signed bytes. */
const checksumHolds = (block: Buffer, at: number): boolean => {
  let unsigned = 8 * 0x20
  let signed = unsigned
  for (let i = 0; i < blockBytes; i++) {
    if (i >= 148 && i < 156) continue
    const byte = block.readUInt8(at + i)
    unsigned += byte
    signed += byte > 127 ? byte - 256 : byte
  }
  const stated = numberField(block, at + 148, 8)
  return stated === unsigned || stated === signed
}

const isZero = (block: Buffer, at: number): boolean => {
  for (let i = at; i < at + blockBytes; i++) if (block[i] !== 0) return false
  return true
}

/** What extension headers say of the next entry. */
interface Overrides {
  name?: string
  size?: number
  mtime?: number
}

const readPax = (body: Buffer, overrides: Overrides): void => {
  for (let at = 0; at < body.length; ) {
    const blank = body.indexOf(0x20, at)
    const length = Number(body.toString("latin1", at, blank < 0 ? at : blank))
    if (!Number.isInteger(length) || length <= blank - at + 1 || at + length > body.length) {
      throw new TarMalformed({ message: "the tar archive has a malformed pax header" })
    }
    const record = body.toString("utf8", blank + 1, at + length - 1)
    const equals = record.indexOf("=")
    const value = record.slice(equals + 1)
    switch (record.slice(0, equals)) {
      case "path":
        overrides.name = value
        break
      case "size":
        overrides.size = Number(value)
        break
      case "mtime":
        overrides.mtime = Number(value)
        break
    }
    at += length
  }
}

export class TarReader {
  private readonly receiver: Receiver
  private readonly block = Buffer.alloc(blockBytes)
  private blockFill = 0
  private zeroBlocks = 0
  private overrides: Overrides = {}
  /** Name of the entry under way, for messages. */
  private name: string | undefined
  private contentLeft = 0
  private paddingLeft = 0
  /** Body of the extension header under way. */
  private extension: { readonly type: string; readonly body: Buffer; fill: number } | undefined

  constructor(receiver: Receiver) {
    this.receiver = receiver
  }

  /** Takes the next piece. Throws `TarMalformed`, and what the receiver throws. */
  push(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length) {
      const left = bytes.length - at
      if (this.contentLeft > 0) {
        const taken = Math.min(this.contentLeft, left)
        this.contentLeft -= taken
        this.take(bytes, at, at + taken)
        at += taken
      } else if (this.paddingLeft > 0) {
        const taken = Math.min(this.paddingLeft, left)
        this.paddingLeft -= taken
        at += taken
      } else if (this.blockFill === 0 && left >= blockBytes) {
        this.header(bytes, at)
        at += blockBytes
      } else {
        const taken = Math.min(blockBytes - this.blockFill, left)
        bytes.copy(this.block, this.blockFill, at, at + taken)
        this.blockFill += taken
        at += taken
        if (this.blockFill === blockBytes) {
          this.blockFill = 0
          this.header(this.block, 0)
        }
      }
    }
  }

  /** Throws `TarMalformed` unless the archive is whole. */
  end(): void {
    if (this.contentLeft > 0 || this.paddingLeft > 0) {
      throw new TarMalformed({ message: `the tar archive ends in the middle of ${this.name}` })
    }
    if (this.blockFill > 0 || this.zeroBlocks < 2) {
      throw new TarMalformed({ message: "the tar archive is cut short: it has no end mark" })
    }
  }

  private take(bytes: Buffer, from: number, to: number): void {
    if (this.extension === undefined) {
      this.receiver.content(bytes, from, to)
      if (this.contentLeft === 0) this.receiver.done()
      return
    }
    bytes.copy(this.extension.body, this.extension.fill, from, to)
    this.extension.fill += to - from
    if (this.contentLeft === 0) this.extend(this.extension)
  }

  private extend({ type, body }: { readonly type: string; readonly body: Buffer }): void {
    this.extension = undefined
    if (type === "L") this.overrides.name = textField(body, 0, body.length)
    if (type === "x") readPax(body, this.overrides)
  }

  private header(bytes: Buffer, at: number): void {
    if (bytes[at] === 0 && isZero(bytes, at)) {
      this.zeroBlocks++
      return
    }
    this.zeroBlocks = 0
    if (!checksumHolds(bytes, at)) {
      throw new TarMalformed({
        message: `not a tar archive, or damaged${this.name === undefined ? "" : ` after ${this.name}`}`
      })
    }
    const type = bytes.toString("latin1", at + 156, at + 157)
    // In GNU headers (magic `ustar  `) other things stand where POSIX has the prefix.
    const prefix = bytes.toString("latin1", at + 257, at + 263) === "ustar\0" ? textField(bytes, at + 345, 155) : ""
    const short = textField(bytes, at, 100)
    const overrides = isExtension(type) ? {} : this.overrides
    const name = overrides.name ?? (prefix === "" ? short : `${prefix}/${short}`)
    const size = overrides.size ?? numberField(bytes, at + 124, 12)
    const mtime = overrides.mtime ?? numberField(bytes, at + 136, 12)
    const mode = numberField(bytes, at + 100, 8)
    if (
      mtime === undefined ||
      !Number.isFinite(mtime) ||
      size === undefined ||
      !Number.isSafeInteger(size) ||
      size < 0 ||
      mode === undefined
    ) {
      throw new TarMalformed({ message: `the tar header of ${name} has a malformed number` })
    }
    this.name = name
    if (isExtension(type)) this.beginExtension(type, size)
    else this.beginEntry(type, name, size, mode & 0o777, mtime)
  }

  private beginExtension(type: string, size: number): void {
    if (size > maxExtensionBytes) throw new TarMalformed({ message: `a tar header of ${size} bytes is too large` })
    this.expect(size)
    if (size > 0) this.extension = { type, body: Buffer.alloc(size), fill: 0 }
  }

  private beginEntry(type: string, name: string, size: number, mode: number, mtime: number): void {
    this.overrides = {}
    const stated = kinds[type] ?? "tar entry of unknown type"
    // Before POSIX a directory was a file with a slash at the end.
    const kind = stated === "file" && name.endsWith("/") ? "directory" : stated
    const content = kind === "file" ? size : 0
    this.receiver.entry({ name, kind, size: content, mode, mtime })
    this.expect(content)
    if (content === 0) this.receiver.done()
  }

  private expect(size: number): void {
    this.contentLeft = size
    this.paddingLeft = (blockBytes - (size % blockBytes)) % blockBytes
  }
}
