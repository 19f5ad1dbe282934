/**
 * Unpacks a tar archive into a directory, as it comes.
 *
 * Files get exactly the permission bits, times and owner they should have, whatever the umask; directories get theirs at
 * the end, so that one that must not be written to can be filled first. Missing parents are made (0700), existing
 * directories accepted, existing files replaced. The directory itself keeps its mode and owner. Nothing is written
 * outside of it, nor through a link: an archive that has links, devices, absolute names or `..` is refused.
 *
 * Small pieces are written at once on the main thread, which costs less than handing them out; large ones in Node's thread
 * pool, so that a slow disk does not hold up the process.
 */
import * as Fs from "node:fs"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Entry, TarMalformed, TarReader } from "./TarReader.ts"

/** The archive asks for something that is never done: to leave the directory, or to make a link or a device. */
export class EntryRefused extends Data.TaggedError("EntryRefused")<{
  readonly entry: string
  readonly message: string
}> {}

/** A file operation failed; `code` is that of the system (`ENOSPC`). */
export class UnpackFailed extends Data.TaggedError("UnpackFailed")<{
  readonly path: string
  readonly code: string | undefined
  readonly message: string
  readonly cause: unknown
}> {}

export type UntarError = TarMalformed | EntryRefused | UnpackFailed

export interface UntarOptions {
  /** Exists already. */
  readonly directory: string
  /** Whom the files are given to; undefined: to nobody. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined
}

export interface Untar {
  /** Unpacks the next piece of the archive. Its bytes are not used any more when this has ended. */
  readonly write: (bytes: Buffer) => Effect.Effect<void, UntarError>
  /** To be run after the last piece: fails unless the archive was whole. */
  readonly finish: Effect.Effect<void, UntarError>
}

/** From this size on a piece is written in the thread pool. */
const pooledBytes = 64 * 1024
/** Of parents that the archive does not list (`pg_wal`), as the original leaves them. PGDATA itself keeps others out. */
const parentMode = 0o755

interface OpenFile {
  readonly path: string
  readonly fd: number
  readonly entry: Entry
  position: number
}

interface PooledWrite {
  readonly file: OpenFile
  readonly bytes: Buffer
  readonly position: number
}

const errorCode = (cause: unknown): string | undefined =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : undefined

const failed = (path: string, cause: unknown): UnpackFailed =>
  new UnpackFailed({ path, code: errorCode(cause), message: `cannot unpack ${path}`, cause })

const adapt = (error: unknown): UntarError =>
  error instanceof TarMalformed || error instanceof EntryRefused || error instanceof UnpackFailed
    ? error
    : failed("the archive", error)

const refuse = (entry: string, why: string): EntryRefused =>
  new EntryRefused({ entry, message: `the archive must not be unpacked: ${entry} ${why}` })

/** Writes all of it; calls back once. */
const writeAll = (fd: number, bytes: Buffer, position: number, done: (error: Error | null) => void): void => {
  Fs.write(fd, bytes, 0, bytes.length, position, (error, written) => {
    if (error !== null || written === bytes.length) done(error)
    else writeAll(fd, bytes.subarray(written), position + written, done)
  })
}

/** What the archive says becomes files here. Throws `UntarError`s. */
class Unpacker {
  private readonly root: string
  private readonly owner: UntarOptions["owner"]
  private readonly reader: TarReader
  /** Directories, relative to the root, that are known to be no links. */
  private readonly known = new Set([""])
  /** What directories get at the end. */
  private readonly listed = new Map<string, Entry>()
  private file: OpenFile | undefined
  /** Left over by `push` for the thread pool. */
  private writes: Array<PooledWrite> = []
  /** Files whose content is complete once those are done. */
  private ended: Array<OpenFile> = []

  constructor({ directory, owner }: UntarOptions) {
    this.root = directory
    this.owner = owner
    this.reader = new TarReader({
      entry: (entry) => this.begin(entry),
      content: (bytes, from, to) => this.content(bytes, from, to),
      done: () => this.done()
    })
  }

  /** Takes a piece in. True when `flush` has to follow before the next one. */
  push(bytes: Buffer): boolean {
    this.reader.push(bytes)
    return this.writes.length > 0
  }

  /** Does the large writes of the last piece, side by side. */
  flush(done: (error: UntarError | undefined) => void): void {
    const { writes, ended } = this
    this.writes = []
    this.ended = []
    let left = writes.length
    let broken: UntarError | undefined
    for (const { file, bytes, position } of writes) {
      writeAll(file.fd, bytes, position, (error) => {
        if (error !== null) broken ??= failed(file.entry.name, error)
        if (--left > 0) return
        try {
          for (const file of ended) this.close(file, broken === undefined)
        } catch (cause) {
          broken ??= adapt(cause)
        }
        done(broken)
      })
    }
  }

  /** Checks that the archive was whole and completes the directories. */
  end(): void {
    this.reader.end()
    for (const [name, entry] of this.listed) {
      this.attempt(entry.name, () => {
        const path = this.path(name)
        if (this.owner !== undefined) Fs.lchownSync(path, this.owner.uid, this.owner.gid)
        Fs.chmodSync(path, entry.mode)
        Fs.utimesSync(path, entry.mtime, entry.mtime)
      })
    }
  }

  /** Closes what a failure or an interruption left open. */
  abandon(): void {
    for (const { fd } of this.file === undefined ? this.ended : [...this.ended, this.file]) Fs.closeSync(fd)
    this.ended = []
    this.file = undefined
  }

  private path(name: string): string {
    return `${this.root}/${name}`
  }

  private begin(entry: Entry): void {
    const name = this.relative(entry.name)
    switch (entry.kind) {
      case "directory":
        this.ensureDirectory(name, entry.name)
        if (name !== "") this.listed.set(name, entry)
        break
      case "file":
        this.open(name, entry)
        break
      default:
        throw refuse(entry.name, `is a ${entry.kind}`)
    }
  }

  /** Checks a name and drops empty components and `.`. */
  private relative(name: string): string {
    if (name.startsWith("/")) throw refuse(name, "is an absolute path")
    const parts = name.split("/")
    if (parts.includes("..")) throw refuse(name, "leads out of the directory")
    return parts.filter((part) => part !== "" && part !== ".").join("/")
  }

  private ensureDirectory(name: string, entry: string): void {
    if (this.known.has(name)) return
    this.ensureDirectory(name.slice(0, Math.max(0, name.lastIndexOf("/"))), entry)
    this.attempt(entry, () => {
      const path = this.path(name)
      try {
        Fs.mkdirSync(path, parentMode)
        if (this.owner !== undefined) Fs.lchownSync(path, this.owner.uid, this.owner.gid)
      } catch (cause) {
        if (errorCode(cause) !== "EEXIST") throw cause
        if (!Fs.lstatSync(path).isDirectory()) throw refuse(entry, `goes through ${name}, which is not a directory`)
      }
    })
    this.known.add(name)
  }

  private open(name: string, entry: Entry): void {
    if (name === "") throw refuse(entry.name, "is a file without a name")
    this.ensureDirectory(name.slice(0, Math.max(0, name.lastIndexOf("/"))), entry.name)
    this.attempt(entry.name, () => {
      const path = this.path(name)
      this.file = { path, fd: this.create(path, entry), entry, position: 0 }
    })
  }

  private create(path: string, entry: Entry): number {
    try {
      return Fs.openSync(path, "wx", entry.mode)
    } catch (cause) {
      if (errorCode(cause) !== "EEXIST") throw cause
    }
    // Exclusive creation never follows a link. A file gives way to the new one, anything else must not be there.
    if (!Fs.lstatSync(path).isFile()) throw refuse(entry.name, "is there already and not a file")
    Fs.unlinkSync(path)
    return Fs.openSync(path, "wx", entry.mode)
  }

  private content(bytes: Buffer, from: number, to: number): void {
    const { file } = this
    if (file === undefined) return
    if (to - from >= pooledBytes) {
      this.writes.push({ file, bytes: bytes.subarray(from, to), position: file.position })
      file.position += to - from
      return
    }
    this.attempt(file.entry.name, () => {
      for (let at = from; at < to; ) {
        const written = Fs.writeSync(file.fd, bytes, at, to - at, file.position)
        at += written
        file.position += written
      }
    })
  }

  private done(): void {
    const { file } = this
    if (file === undefined) return
    this.file = undefined
    if (this.writes.some((write) => write.file === file)) this.ended.push(file)
    else this.close(file, true)
  }

  private close(file: OpenFile, whole: boolean): void {
    this.attempt(file.entry.name, () => {
      try {
        if (!whole) return
        if (this.owner !== undefined) Fs.fchownSync(file.fd, this.owner.uid, this.owner.gid)
        Fs.fchmodSync(file.fd, file.entry.mode)
        Fs.futimesSync(file.fd, file.entry.mtime, file.entry.mtime)
      } finally {
        Fs.closeSync(file.fd)
      }
    })
  }

  private attempt(entry: string, operation: () => void): void {
    try {
      operation()
    } catch (cause) {
      throw cause instanceof EntryRefused ? cause : failed(entry, cause)
    }
  }
}

/** An archive to be unpacked into `directory`. */
export const make = (options: UntarOptions): Effect.Effect<Untar, never, Scope.Scope> =>
  Effect.gen(function* () {
    const unpacker = yield* Effect.acquireRelease(
      Effect.sync(() => new Unpacker(options)),
      (unpacker) => Effect.sync(() => unpacker.abandon())
    )
    // Not interruptible: a file must not be closed under a write that the thread pool is doing.
    const flush = Effect.uninterruptible(
      Effect.callback<void, UntarError>((resume) => {
        unpacker.flush((error) => resume(error === undefined ? Effect.void : Effect.fail(error)))
      })
    )
    return {
      write: (bytes) =>
        Effect.flatMap(Effect.try({ try: () => unpacker.push(bytes), catch: adapt }), (left) =>
          left ? flush : Effect.void
        ),
      finish: Effect.try({ try: () => unpacker.end(), catch: adapt })
    }
  })
