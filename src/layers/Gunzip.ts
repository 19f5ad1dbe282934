/**
 * Inflates a gzip stream in Node's thread pool, ahead of its reader.
 *
 * Large pieces are the lever: with zlib's default of 16 KiB the same work takes four times as long. While the reader is at
 * one piece the next ones are being inflated, at most `ahead` of them. Ends well only after the whole gzip member with
 * its checksum. Source: reference/effect-process-sql §2.17.
 */
import * as Zlib from "node:zlib"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Not a gzip stream, damaged, or cut short. */
export class GunzipFailed extends Data.TaggedError("GunzipFailed")<{
  readonly message: string
  readonly cause: unknown
}> {}

export interface Gunzip {
  /** Takes compressed bytes; ends when they may be used for something else. Fails like `next`. */
  readonly write: (bytes: Uint8Array) => Effect.Effect<void, GunzipFailed>
  /** No more bytes come. */
  readonly end: Effect.Effect<void>
  /** The next piece, valid until `next` is run again; `undefined` at the end of the stream. */
  readonly next: Effect.Effect<Buffer | undefined, GunzipFailed>
}

/** Of output. Smaller pieces cost time (256 KiB: 15 %), larger ones gain nothing. */
const pieceBytes = 1024 * 1024
/** Pieces that wait for the reader, besides the one being inflated. */
const ahead = 3

const describeFailure = (cause: NodeJS.ErrnoException): string => {
  switch (cause.code) {
    case "Z_BUF_ERROR":
      return "the gzip stream is cut short"
    case "Z_DATA_ERROR":
      return "not a gzip stream, or damaged"
    case "ERR_TRAILING_JUNK_AFTER_STREAM_END":
      return "bytes follow the end of the gzip stream"
    default:
      return "cannot inflate the gzip stream"
  }
}

export const make: Effect.Effect<Gunzip, never, Scope.Scope> = Effect.gen(function* () {
  const gunzip = yield* Effect.acquireRelease(
    Effect.sync(() => Zlib.createGunzip({ chunkSize: pieceBytes, rejectGarbageAfterEnd: true })),
    (gunzip) => Effect.sync(() => gunzip.destroy())
  )
  const pieces: Array<Buffer> = []
  let lent: Buffer | undefined
  let ended = false
  let failure: GunzipFailed | undefined
  let reader: (() => void) | undefined
  let writer: (() => void) | undefined

  // Not at once: zlib starts on its next piece when this callback is over, and the reader may keep the thread busy.
  const wake = () => queueMicrotask(() => reader?.())
  gunzip.on("data", (piece: Buffer) => {
    if (pieces.push(piece) >= ahead) gunzip.pause()
    wake()
  })
  gunzip.once("end", () => {
    ended = true
    wake()
  })
  gunzip.on("error", (cause) => {
    failure ??= new GunzipFailed({ message: describeFailure(cause), cause })
    wake()
    writer?.()
  })

  /**
   * Frees the piece that the reader is through with. Left to the garbage collector, some 80 MB come together, and fresh
   * memory for each piece takes a third of the time. zlib fills a buffer piece by piece and takes a new one when it is
   * full, so one whose end was lent is in nobody's hands any more.
   */
  const free = () => {
    const buffer = lent?.buffer
    if (lent !== undefined && buffer instanceof ArrayBuffer && buffer.byteLength === pieceBytes) {
      if (lent.byteOffset + lent.length === pieceBytes) buffer.transfer(0)
    }
    lent = undefined
  }

  const poll = (): Effect.Effect<Buffer | undefined, GunzipFailed> | undefined => {
    const piece = pieces.shift()
    if (piece === undefined) {
      return failure !== undefined ? Effect.fail(failure) : ended ? Effect.undefined : undefined
    }
    lent = piece
    if (gunzip.isPaused()) gunzip.resume()
    return Effect.succeed(piece)
  }

  return {
    write: (bytes) =>
      Effect.callback((resume) => {
        const done = () => {
          writer = undefined
          resume(failure === undefined ? Effect.void : Effect.fail(failure))
        }
        if (failure !== undefined) return done()
        writer = done
        gunzip.write(bytes, () => writer?.())
        return Effect.sync(() => {
          writer = undefined
        })
      }),
    end: Effect.sync(() => {
      gunzip.end()
    }),
    next: Effect.suspend(() => {
      free()
      return (
        poll() ??
        Effect.callback((resume) => {
          reader = () => {
            const polled = poll()
            if (polled === undefined) return
            reader = undefined
            resume(polled)
          }
          return Effect.sync(() => {
            reader = undefined
          })
        })
      )
    })
  }
})
