/**
 * How fast a base backup is unpacked, against `gzip -dc | tar x` of the same file.
 *
 *     scripts/node bench/unpack.ts [ROUNDS]
 *
 * A child process serves the archive from memory over TCP, as a pageserver does: COPY OUT in 8 KiB CopyData. Rounds of
 * ours and of the floor take turns; medians are printed. Works in TMPDIR, else in memory (/dev/shm) where there is such a
 * place: on a disk the deleting between the rounds is what is measured (ext4 does not use a deleted file's inode again
 * for some seconds, and looking for another takes it 1 ms a file). What the benchmark made is removed.
 */
import { type ChildProcess, execFile, fork } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import { promisify } from "node:util"
import { createGzip } from "node:zlib"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { TenantId, TimelineId } from "../src/domain/Identifiers.ts"
import * as Lsn from "../src/domain/Lsn.ts"
import { Pageserver } from "../src/layers/Pageserver.ts"
import { endOfArchive, entry } from "../test/support/tarball.ts"

const pageBytes = 8192
const segmentBytes = 16 * 1024 * 1024
const copyDataBytes = 8192

let seed = 1
/** Numbers that only look random, the same in every run. */
const random = (below: number): number => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return Math.floor((seed / 2 ** 32) * below)
}

/** Pages like those of a table: line pointers, a hole, rows that are partly alike. Shrinks to about a quarter. */
const pages = (bytes: number): Buffer => {
  const out = Buffer.alloc(bytes)
  for (let page = 0; page < bytes; page += pageBytes) {
    out.writeUInt32LE(random(2 ** 32), page + 4)
    let pointer = page + 24
    let row = page + pageBytes
    while (row > pointer + 200) {
      const length = 60 + random(80)
      row -= length
      out.writeUInt32LE(random(2 ** 20), row)
      out.writeUInt32LE((row - page) | (length << 17), pointer)
      pointer += 4
      const text = `user${random(65536)}@example.com|${random(2 ** 32)}|status active|2026-0${1 + random(9)}-1${random(9)}`
      out.write(text.slice(0, length - 24), row + 24, "latin1")
    }
  }
  return out
}

function* archive(files: number, segments: number): Generator<Buffer> {
  const style = "pageserver"
  for (const name of ["global", "pg_wal/archive_status", "pg_xact", "base", "base/1"]) {
    yield entry({ name, type: "5", mode: 0o755, style })
  }
  for (let i = 0; i < files; i++) {
    yield entry({ name: `base/1/${16384 + i}`, content: pages(pageBytes * ([1, 3, 1, 3, 32][i % 5] ?? 1)), style })
  }
  for (let i = 0; i < segments; i++) {
    yield entry({ name: `pg_wal/${String(i).padStart(24, "0")}`, content: pages(segmentBytes), style })
  }
  yield endOfArchive
}

/** In the child, so that the memory it takes is not ours: makes the archive and answers every connection with it. */
const serve = async (path: string, files: number, segments: number): Promise<void> => {
  await pipeline(Readable.from(archive(files, segments)), createGzip({ level: 1 }), Fs.createWriteStream(path))
  const message = (type: string, body: Buffer): Buffer => {
    const out = Buffer.alloc(5 + body.length)
    out.write(type, 0, "latin1")
    out.writeInt32BE(body.length + 4, 1)
    body.copy(out, 5)
    return out
  }
  const ready = message("Z", Buffer.from("I"))
  const data = Fs.readFileSync(path)
  const frames: Array<Buffer> = [message("H", Buffer.alloc(3))]
  for (let at = 0; at < data.length; at += copyDataBytes)
    frames.push(message("d", data.subarray(at, at + copyDataBytes)))
  frames.push(message("c", Buffer.alloc(0)), message("C", Buffer.from("SELECT 1\0")), ready)
  const answer = Buffer.concat(frames)
  const server = Net.createServer((socket) => {
    socket.on("error", () => {})
    socket.once("data", () => {
      socket.once("data", () => Readable.from(pieces(answer)).pipe(socket))
      socket.write(Buffer.concat([message("R", Buffer.alloc(4)), ready]))
    })
  })
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    process.send?.(address !== null && typeof address === "object" ? address.port : 0)
  })
}

function* pieces(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += 256 * 1024) yield bytes.subarray(at, at + 256 * 1024)
}

const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
const mib = (bytes: number): string => (bytes / 1024 / 1024).toFixed(0)

const tenantId = Schema.decodeSync(TenantId)("11111111111111111111111111111111")
const timelineId = Schema.decodeSync(TimelineId)("22222222222222222222222222222222")

const timed = async (work: () => unknown): Promise<number> => {
  const begun = performance.now()
  await work()
  return performance.now() - begun
}

const ours = (port: number, pgdata: string): Promise<unknown> =>
  Effect.runPromise(
    Effect.flatMap(Pageserver, (pageserver) =>
      pageserver.basebackup({
        url: `postgresql://127.0.0.1:${port}`,
        tenantId,
        timelineId,
        lsn: Lsn.zero,
        mode: "primary",
        token: undefined,
        pgdata,
        owner: undefined
      })
    ).pipe(Effect.provide(Pageserver.layer))
  )

const measure = async (directory: string, label: string, files: number, segments: number, rounds: number) => {
  const path = join(directory, "backup.tar.gz")
  const child: ChildProcess = fork(import.meta.filename, ["serve", path, `${files}`, `${segments}`])
  const [port] = await once(child, "message")
  const target = join(directory, "pgdata")
  const into = (work: () => unknown): Promise<number> => {
    Fs.rmSync(target, { recursive: true, force: true })
    Fs.mkdirSync(target)
    last = performance.now()
    return timed(work)
  }
  const before = process.memoryUsage.rss()
  let peak = 0
  let lag = 0
  let last = performance.now()
  await into(() => ours(Number(port), target))
  const watch = setInterval(() => {
    const now = performance.now()
    lag = Math.max(lag, now - last - 20)
    last = now
    peak = Math.max(peak, process.memoryUsage.rss())
  }, 20)
  const measured: Array<number> = []
  const floor: Array<number> = []
  for (let round = 0; round < rounds; round++) {
    floor.push(await into(() => promisify(execFile)("sh", ["-c", `gzip -dc ${path} | tar x -C ${target}`])))
    measured.push(await into(() => ours(Number(port), target)))
  }
  clearInterval(watch)
  child.kill()
  const [a, b] = [median(measured), median(floor)]
  const line = [
    `${label.padEnd(7)} ours ${a.toFixed(0)} ms`,
    `gzip|tar ${b.toFixed(0)} ms`,
    `ratio ${(a / b).toFixed(2)}`,
    `RSS +${mib(peak - before)} MiB`,
    `event loop lag ${lag.toFixed(0)} ms`,
    `(compressed ${mib(Fs.statSync(path).size)} MiB, ${rounds} rounds, best ${Math.min(...measured).toFixed(0)} / ${Math.min(...floor).toFixed(0)} ms)`
  ]
  process.stdout.write(`${line.join("   ")}\n`)
}

const [first, path, files, segments] = process.argv.slice(2)
if (first === "serve" && path !== undefined) await serve(path, Number(files), Number(segments))
else {
  const place = process.env["TMPDIR"] === undefined && Fs.existsSync("/dev/shm") ? "/dev/shm" : tmpdir()
  const directory = Fs.mkdtempSync(join(place, "bench-unpack-"))
  try {
    await measure(directory, "40 MB", 400, 1, Number(first ?? 9))
    await measure(directory, "300 MB", 1000, 15, Number(first ?? 9))
  } finally {
    Fs.rmSync(directory, { recursive: true, force: true })
  }
}
