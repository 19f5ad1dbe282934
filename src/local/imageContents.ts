/**
 * Which files of a cleanly stopped data directory go into its image, and in what order.
 *
 * Only what belongs to the database is taken: configuration, logs, sockets and whatever else lies in the directory stay
 * out, symbolic links too. Source: reference/storage-protocols §1.5, §8.3.
 */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Lsn from "../domain/Lsn.ts"
import type { PgControl } from "../domain/PgControl.ts"
import type { Entry } from "./tarStream.ts"

/** A stopped data directory, as far as its image depends on it. */
export interface Source {
  readonly pgdata: string
  readonly major: number
  readonly control: PgControl
  /** `global/pg_control`, all of it. */
  readonly controlBytes: Buffer
  /** Where WAL goes on. */
  readonly lsn: Lsn.Lsn
}

const directories = (major: number): ReadonlyArray<string> => [
  "global",
  "pg_wal/archive_status",
  ...(major >= 17 ? ["pg_wal/summaries"] : []),
  "pg_commit_ts",
  // A link to /dev/shm in a running data directory.
  "pg_dynshmem",
  "pg_notify",
  "pg_serial",
  "pg_snapshots",
  "pg_subtrans",
  "pg_twophase",
  "pg_multixact",
  "pg_multixact/members",
  "pg_multixact/offsets",
  "base",
  "base/1",
  "pg_replslot",
  "pg_tblspc",
  "pg_stat",
  "pg_stat_tmp",
  "pg_xact",
  "pg_logical",
  "pg_logical/snapshots",
  "pg_logical/mappings"
]

/** The rules that initdb writes with `--auth=trust`. */
const pgHba = `# TYPE  DATABASE        USER            ADDRESS                 METHOD

# "local" is for Unix domain socket connections only
local   all             all                                     trust
# IPv4 local connections:
host    all             all             127.0.0.1/32            trust
# IPv6 local connections:
host    all             all             ::1/128                 trust
# Allow replication connections from localhost, by a user with the
# replication privilege.
local   replication     all                                     trust
host    replication     all             127.0.0.1/32            trust
host    replication     all             ::1/128                 trust
`

const bytes = (name: string, content: string | Buffer): Entry => ({
  kind: "bytes",
  name,
  content: typeof content === "string" ? Buffer.from(content) : content
})

const temporary = /^(pgsql_tmp|pg_internal\.init)/u

/** Entries of a directory by name; none where it does not exist. */
export const listing = async (path: string) => {
  const entries = await fs.readdir(path, { withFileTypes: true }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return []
    throw cause
  })
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1))
}

const subdirectories = async (path: string): Promise<ReadonlyArray<string>> =>
  (await listing(path)).filter((entry) => entry.isDirectory()).map(({ name }) => name)

/** Names of the replication slots. */
export const slotNames = (pgdata: string): Promise<ReadonlyArray<string>> => subdirectories(join(pgdata, "pg_replslot"))

const filesIn = async (pgdata: string, folder: string): Promise<ReadonlyArray<Entry>> => {
  const found = await listing(join(pgdata, folder))
  return found
    .filter((entry) => entry.isFile() && !temporary.test(entry.name))
    .map(({ name }) => ({ kind: "file", name: `${folder}/${name}` }))
}

const folderWithFiles = async (pgdata: string, folder: string): Promise<ReadonlyArray<Entry>> => [
  { kind: "directory", name: folder },
  ...(await filesIn(pgdata, folder))
]

const databases = async (pgdata: string): Promise<ReadonlyArray<Entry>> => {
  const oids = (await subdirectories(join(pgdata, "base"))).filter((name) => /^\d+$/u.test(name))
  return (await Promise.all(oids.map((oid) => folderWithFiles(pgdata, `base/${oid}`)))).flat()
}

/** Where the restart position stands in the state file of a slot. */
const slotRestartLsn = 96

interface Slots {
  readonly entries: ReadonlyArray<Entry>
  /** The oldest position that a slot needs. */
  readonly restart: bigint | undefined
}

const readSlots = async (pgdata: string): Promise<Slots> => {
  const entries: Array<Entry> = []
  let restart: bigint | undefined
  for (const name of await slotNames(pgdata)) {
    entries.push(...(await folderWithFiles(pgdata, `pg_replslot/${name}`)))
    const state = await fs.readFile(join(pgdata, "pg_replslot", name, "state"))
    const lsn = state.readBigUInt64LE(slotRestartLsn)
    if (lsn !== 0n && (restart === undefined || lsn < restart)) restart = lsn
  }
  return { entries, restart }
}

const restartFile = (restart: bigint | undefined): ReadonlyArray<Entry> => {
  if (restart === undefined) return []
  const content = Buffer.alloc(8)
  content.writeBigUInt64LE(restart)
  return [bytes("restart.lsn", content)]
}

/** Name of a WAL file by the number of its segment. */
const segmentName = ({ timeline, walSegmentSize }: PgControl, segment: bigint): string => {
  const perId = 0x1_0000_0000n / BigInt(walSegmentSize)
  return [BigInt(timeline), segment / perId, segment % perId]
    .map((part) => part.toString(16).toUpperCase().padStart(8, "0"))
    .join("")
}

/** From the checkpoint on, or from the oldest position that a slot needs. */
const wal = async ({ pgdata, control, lsn }: Source, restart: bigint | undefined): Promise<ReadonlyArray<Entry>> => {
  const size = BigInt(control.walSegmentSize)
  const from = (restart !== undefined && restart < control.redo ? restart : control.redo) / size
  const to = (lsn - 1n) / size
  const there = (await listing(join(pgdata, "pg_wal"))).filter((entry) => entry.isFile()).map(({ name }) => name)
  const histories = there.filter((name) => /^[0-9A-F]{8}\.history$/u.test(name))
  const segments = Array.from({ length: Number(to - from) + 1 }, (_, index) =>
    segmentName(control, from + BigInt(index))
  )
  const missing = segments.find((name) => !there.includes(name))
  if (missing !== undefined) throw new Error(`WAL segment ${missing} is missing`)
  return [...histories, ...segments].map((name) => ({ kind: "file", name: `pg_wal/${name}` }))
}

/**
 * The entries of an image. `pg_control` is next to last, so that a cut archive cannot be started; the last record of a
 * stopped cluster is its checkpoint. Without slots it suits standbys.
 */
export const imageContents = async (source: Source, withSlots: boolean): Promise<ReadonlyArray<Entry>> => {
  const { pgdata } = source
  const files = (folder: string) => filesIn(pgdata, folder)
  const slots = withSlots ? await readSlots(pgdata) : { entries: [], restart: undefined }
  const signal = `PREV LSN: ${Lsn.format(source.control.checkPoint)}`
  return [
    ...directories(source.major).map((name): Entry => ({ kind: "directory", name })),
    bytes("pg_hba.conf", pgHba),
    bytes("pg_ident.conf", ""),
    bytes("postgresql.auto.conf", ""),
    ...(await files("pg_xact")),
    ...(await files("pg_multixact/members")),
    ...(await files("pg_multixact/offsets")),
    ...(await files("pg_commit_ts")),
    { kind: "file", name: "PG_VERSION" },
    ...(await files("global")).filter(({ name }) => name !== "global/pg_control"),
    ...(await databases(pgdata)),
    ...slots.entries,
    ...(await files("pg_logical/snapshots")),
    ...(await files("pg_logical/mappings")),
    ...(await files("pg_logical")),
    ...(await files("pg_stat")),
    ...restartFile(slots.restart),
    ...(await files("pg_twophase")),
    bytes("neon.signal", signal),
    bytes("zenith.signal", signal),
    bytes("global/pg_control", source.controlBytes),
    ...(await wal(source, slots.restart))
  ]
}
