/**
 * `global/pg_control`, the file that tells Postgres where its last checkpoint is.
 *
 * Reads what the local storage needs of it and can mark a cluster as not cleanly stopped, so that WAL behind the
 * checkpoint is replayed. Little-endian 64-bit layouts of PostgreSQL 14 to 18. Source: reference/storage-protocols
 * §1.5, §8.3; the layout of 18 from its headers: one flag more in front of the nonce moves the checksum by 4 bytes.
 */
import * as Data from "effect/Data"
import * as Result from "effect/Result"
import * as Lsn from "./Lsn.ts"
import type { PostgresMajor } from "./PostgresVersion.ts"

/** `DBState` of Postgres, by number. */
const states = [
  "startup",
  "shut down",
  "shut down in recovery",
  "shutting down",
  "in crash recovery",
  "in archive recovery",
  "in production"
] as const
export type ClusterState = (typeof states)[number]

interface Layout {
  readonly majors: ReadonlyArray<PostgresMajor>
  /** Offset of the checksum, which covers all before it. */
  readonly crc: number
}

/** By `pg_control_version`. */
const layouts: ReadonlyMap<number, Layout> = new Map<number, Layout>([
  [1300, { majors: [14, 15, 16], crc: 288 }],
  [1700, { majors: [17], crc: 288 }],
  [1800, { majors: [18], crc: 292 }]
])

const offsets = {
  systemIdentifier: 0,
  controlVersion: 8,
  catalogVersion: 12,
  state: 16,
  checkPoint: 32,
  redo: 40,
  timeline: 48,
  walBlockSize: 224,
  walSegmentSize: 228
} as const

/** Up to the end of the largest layout. The file itself has 8192 bytes. */
const minimumBytes = 296

/** Size of a shutdown checkpoint in WAL: header 24, data header 2, `CheckPoint` 88. */
const shutdownCheckpointBytes = 114n
const shortPageHeaderBytes = 24n
const longPageHeaderBytes = 40n

export interface PgControl {
  /** Majors of Postgres that write this layout. */
  readonly majors: ReadonlyArray<PostgresMajor>
  readonly systemIdentifier: bigint
  readonly controlVersion: number
  /** Tells majors and development snapshots apart. */
  readonly catalogVersion: number
  readonly state: ClusterState
  /** Start of the last checkpoint record. */
  readonly checkPoint: Lsn.Lsn
  /** Where recovery begins. */
  readonly redo: Lsn.Lsn
  readonly timeline: number
  /** Bytes. */
  readonly walBlockSize: number
  readonly walSegmentSize: number
}

/** The bytes are no control file that we understand, or a damaged one. */
export class InvalidPgControl extends Data.TaggedError("InvalidPgControl")<{ readonly message: string }> {}

const invalid = (message: string): Result.Result<never, InvalidPgControl> =>
  Result.fail(new InvalidPgControl({ message: `pg_control: ${message}` }))

const makeTable = (): Uint32Array =>
  Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1
    return value
  })
let table: Uint32Array | undefined

/** CRC-32C (Castagnoli), as Postgres keeps it. */
export const crc32c = (bytes: Uint8Array): number => {
  table ??= makeTable()
  let crc = 0xffffffff
  for (const byte of bytes) crc = (crc >>> 8) ^ (table[(crc ^ byte) & 0xff] ?? 0)
  return (crc ^ 0xffffffff) >>> 0
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** The layout of a control file whose version is known and whose checksum holds. */
const verify = (bytes: Uint8Array): Result.Result<Layout, InvalidPgControl> => {
  if (bytes.length < minimumBytes) return invalid(`${bytes.length} bytes are too few`)
  const view = viewOf(bytes)
  const version = view.getUint32(offsets.controlVersion, true)
  const layout = layouts.get(version)
  if (layout === undefined) return invalid(`version ${version} is not one of ${[...layouts.keys()].join(", ")}`)
  return crc32c(bytes.subarray(0, layout.crc)) === view.getUint32(layout.crc, true)
    ? Result.succeed(layout)
    : invalid("wrong checksum")
}

/** Reads a control file and checks its version and checksum. */
export const parse = (bytes: Uint8Array): Result.Result<PgControl, InvalidPgControl> =>
  Result.flatMap(verify(bytes), ({ majors }) => {
    const view = viewOf(bytes)
    const u32 = (offset: number): number => view.getUint32(offset, true)
    const u64 = (offset: number): bigint => view.getBigUint64(offset, true)
    const state = states[u32(offsets.state)]
    if (state === undefined) return invalid(`unknown state ${u32(offsets.state)}`)
    return Result.succeed({
      majors,
      systemIdentifier: u64(offsets.systemIdentifier),
      controlVersion: u32(offsets.controlVersion),
      catalogVersion: u32(offsets.catalogVersion),
      state,
      checkPoint: Lsn.fromBigInt(u64(offsets.checkPoint)),
      redo: Lsn.fromBigInt(u64(offsets.redo)),
      timeline: u32(offsets.timeline),
      walBlockSize: u32(offsets.walBlockSize),
      walSegmentSize: u32(offsets.walSegmentSize)
    })
  })

/** The position behind the shutdown checkpoint: where the WAL of a cleanly stopped cluster ends. */
export const endOfShutdownCheckpoint = (control: PgControl): Lsn.Lsn => {
  const block = BigInt(control.walBlockSize)
  const onPage = block - (control.checkPoint % block)
  let end = control.checkPoint + shutdownCheckpointBytes
  if (onPage < shutdownCheckpointBytes) {
    const nextPage = control.checkPoint + onPage
    end += nextPage % BigInt(control.walSegmentSize) === 0n ? longPageHeaderBytes : shortPageHeaderBytes
  }
  return Lsn.fromBigInt((end + 7n) & ~7n)
}

/** A copy with another state and the checksum to match. */
export const withState = (bytes: Uint8Array, state: ClusterState): Result.Result<Uint8Array, InvalidPgControl> =>
  Result.map(verify(bytes), ({ crc }) => {
    const copy = Uint8Array.from(bytes)
    const view = viewOf(copy)
    view.setUint32(offsets.state, states.indexOf(state), true)
    view.setUint32(crc, crc32c(copy.subarray(0, crc)), true)
    return copy
  })
