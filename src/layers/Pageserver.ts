/**
 * Base backup: fetches the data directory from the pageserver and unpacks it. One attempt; retries are the caller's, as
 * is the clean directory each one starts in.
 *
 * socket → gunzip (thread pool) → untar → files, side by side, in memory of constant size. An attempt succeeds only with
 * the whole gzip stream, the archive's end mark, and the server's CommandComplete; if the server says what went wrong,
 * its words come before those of the decoders.
 *
 * Source: reference/startup §12, reference/storage-protocols §1; differs: decision S1 (deadlines, late errors).
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as ConnString from "../domain/ConnString.ts"
import type { TenantId, TimelineId } from "../domain/Identifiers.ts"
import * as Lsn from "../domain/Lsn.ts"
import * as Gunzip from "./Gunzip.ts"
import * as PgWire from "./PgWire.ts"
import * as Untar from "./Untar.ts"

/** Another attempt may succeed. `message` is the server's own text where there is one, `code` its SQLSTATE then. */
export class BasebackupFailed extends Data.TaggedError("BasebackupFailed")<{
  readonly message: string
  readonly code?: string
  readonly cause?: unknown
}> {}

/** No attempt can succeed: malformed address, archive that tries to leave PGDATA, full disk, no permission. */
export class BasebackupImpossible extends Data.TaggedError("BasebackupImpossible")<{
  readonly message: string
  readonly cause?: unknown
}> {}

export type BasebackupError = BasebackupFailed | BasebackupImpossible

export interface BasebackupRequest {
  /** libpq connection string of the pageserver. */
  readonly url: string
  readonly tenantId: TenantId
  readonly timelineId: TimelineId
  /** `0/0`: the latest one. */
  readonly lsn: Lsn.Lsn
  readonly mode: "primary" | "static" | "replica"
  /** Comes before a password in `url`. */
  readonly token: Redacted.Redacted<string> | undefined
  /** Exists and holds nothing of an earlier attempt. */
  readonly pgdata: string
  /** Whom the files are given to; undefined: to nobody. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined
}

export interface Basebackup {
  /** Microseconds from the start of the attempt to the session being ready. */
  readonly connectMicros: number
  /** Compressed bytes received. */
  readonly bytes: number
  /** Milliseconds from the start of the attempt to the archive being unpacked. */
  readonly millis: number
}

/** How long to wait for the pageserver. */
export const Deadlines = Context.Reference("compute/layers/Pageserver/Deadlines", {
  defaultValue: () => ({
    connect: Duration.seconds(10),
    /** The pageserver itself waits up to 300 s for the LSN to arrive (its `wait_lsn_timeout`). */
    firstByte: Duration.seconds(310),
    /** Without a byte, once the answer has begun. */
    stall: Duration.seconds(60),
    /** For the server's words, when what it sent cannot be unpacked. */
    lastWords: Duration.seconds(1)
  })
})

/** One read of the socket, one piece of compressed input. */
const bufferBytes = 256 * 1024

/** Errors of file operations that the next attempt would meet again. */
const lasting: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS"])

const fromServer = ({ message, code, cause }: PgWire.PgError): BasebackupFailed =>
  new BasebackupFailed({ message, ...(code === undefined ? {} : { code }), ...(cause === undefined ? {} : { cause }) })

const fromUntar = (error: Untar.UntarError): BasebackupError => {
  const { message } = error
  switch (error._tag) {
    case "TarMalformed":
      return new BasebackupFailed({ message })
    case "EntryRefused":
      return new BasebackupImpossible({ message })
    case "UnpackFailed":
      return lasting.has(error.code)
        ? new BasebackupImpossible({ message, cause: error.cause })
        : new BasebackupFailed({ message, cause: error.cause })
  }
}

const fromGunzip = ({ message, cause }: Gunzip.GunzipFailed): BasebackupFailed =>
  new BasebackupFailed({ message, cause })

const within = (duration: Duration.Duration, what: string) =>
  Effect.timeoutOrElse({
    duration,
    orElse: () => Effect.fail(new BasebackupFailed({ message: `${what} within ${Duration.format(duration)}` }))
  })

const command = ({ tenantId, timelineId, lsn, mode }: BasebackupRequest): string =>
  [
    `basebackup ${tenantId} ${timelineId}`,
    lsn === Lsn.zero ? "" : ` ${Lsn.format(lsn)}`,
    " --gzip",
    mode === "primary" ? "" : " --replica"
  ].join("")

/** Fails with what the server has to say about a stream that could not be unpacked, if it says it soon; else with `error`. */
const afterLastWords = (copy: PgWire.CopyOut, patience: Duration.Duration, error: BasebackupFailed) =>
  copy.next.pipe(
    Effect.repeat({ until: (piece) => piece === undefined }),
    Effect.timeoutOption(patience),
    Effect.matchEffect({
      onSuccess: () => Effect.fail(error),
      onFailure: (said) => Effect.fail(said.code === undefined ? error : fromServer(said))
    })
  )

const basebackup = (deadlines: typeof Deadlines.Service) =>
  Effect.fn("Pageserver.basebackup")(function* (request: BasebackupRequest) {
    const started = yield* Clock.monotonicTimeNanos
    const target = yield* Effect.mapError(
      Effect.fromResult(ConnString.parse(request.url)),
      (cause) => new BasebackupImpossible({ message: `malformed address of the pageserver: ${cause.message}` })
    )
    const session = yield* Effect.mapError(
      PgWire.connect({
        target,
        parameters: { options: `-c neon.compute_mode=${request.mode}`, application_name: "compute_ctl" },
        password: request.token,
        connectTimeout: deadlines.connect,
        bufferBytes
      }),
      fromServer
    )
    const connected = yield* Clock.monotonicTimeNanos

    const copy = yield* Effect.mapError(session.copyOut(command(request)), fromServer).pipe(
      within(deadlines.firstByte, "the pageserver did not answer")
    )
    const received = Effect.mapError(copy.next, fromServer).pipe(within(deadlines.stall, "the pageserver sent nothing"))
    const gunzip = yield* Gunzip.make
    const untar = yield* Untar.make({ directory: request.pgdata, owner: request.owner })
    let bytes = 0

    const receive = Effect.gen(function* () {
      for (let piece = yield* received; piece !== undefined; piece = yield* received) {
        bytes += piece.length
        yield* Effect.mapError(gunzip.write(piece), fromGunzip)
      }
      yield* gunzip.end
    })
    const inflated = Effect.mapError(gunzip.next, fromGunzip)
    const unpack = Effect.gen(function* () {
      for (let piece = yield* inflated; piece !== undefined; piece = yield* inflated) {
        yield* Effect.mapError(untar.write(piece), fromUntar)
      }
      yield* Effect.mapError(untar.finish, fromUntar)
    })
    yield* Effect.all([receive, unpack], { concurrency: "unbounded", discard: true }).pipe(
      Effect.catchTag("BasebackupFailed", (error) =>
        error.code === undefined ? afterLastWords(copy, deadlines.lastWords, error) : Effect.fail(error)
      )
    )
    const ended = yield* Clock.monotonicTimeNanos
    return {
      connectMicros: Number((connected - started) / 1000n),
      bytes,
      millis: Number((ended - started) / 1_000_000n)
    } satisfies Basebackup
  }, Effect.scoped)

export class Pageserver extends Context.Service<
  Pageserver,
  {
    /** One attempt. */
    readonly basebackup: (request: BasebackupRequest) => Effect.Effect<Basebackup, BasebackupError>
  }
>()("compute/layers/Pageserver") {
  static readonly layer = Layer.effect(
    Pageserver,
    Effect.map(Deadlines, (deadlines) => Pageserver.of({ basebackup: basebackup(deadlines) }))
  )
}
