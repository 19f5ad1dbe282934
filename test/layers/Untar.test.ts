import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TarReader } from "../../src/layers/TarReader.ts"
import * as Untar from "../../src/layers/Untar.ts"
import * as Tar from "../support/tarball.ts"

const temporary = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "untar-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
)

const isRoot = process.getuid?.() === 0

/** Unpacks in pieces of `pieceBytes`. */
const unpack = (directory: string, archive: Buffer, pieceBytes = 1024 * 1024, owner?: { uid: number; gid: number }) =>
  Effect.scoped(
    Effect.gen(function* () {
      const untar = yield* Untar.make({ directory, owner })
      for (let at = 0; at < archive.length; at += pieceBytes) yield* untar.write(archive.subarray(at, at + pieceBytes))
      yield* untar.finish
    })
  )

const modeOf = (path: string): number => Fs.statSync(path).mode & 0o7777
const openFiles = (): number => Fs.readdirSync("/proc/self/fd").length
const large = Buffer.from(Array.from({ length: 700_000 }, (_, i) => (i * 31) % 253))

describe("unpacking", () => {
  it.live("S-029 writes contents, modes and times as the archive has them, whatever the umask and the pieces", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const style = "pageserver"
        const archive = Tar.archive(
          { name: "global", type: "5", mode: 0o755, mtime: 1_600_000_000, style },
          { name: "closed", type: "5", mode: 0o500, style },
          { name: "closed/in it", content: "still written", mode: 0o666, style },
          { name: "empty", mode: 0o400, mtime: 1_500_000_000, style },
          { name: "global/pg_control", content: large, mode: 0o600, mtime: 1_234_567_890, style },
          { name: "pg_wal/000000010000000000000001", content: large.subarray(0, 512), mode: 0o1644, style },
          { name: "base/1", type: "5", mode: 0o755, style },
          { name: "base/1", type: "5", mode: 0o755, style },
          { name: "./base/1//PG_VERSION", content: "17\n", style },
          { name: "./", type: "5", mode: 0o777, style }
        )
        const umask = yield* Effect.acquireRelease(
          Effect.sync(() => process.umask(0o077)),
          (before) => Effect.sync(() => process.umask(before))
        )
        assert.isNumber(umask)
        for (const pieceBytes of [1, 511, 513, 100_000, 10_000_000]) {
          const directory = yield* temporary
          const before = openFiles()
          yield* unpack(directory, archive.subarray(0), pieceBytes)
          assert.strictEqual(openFiles(), before)
          assert.isTrue(Fs.readFileSync(join(directory, "global/pg_control")).equals(large), `by ${pieceBytes}`)
          assert.strictEqual(Fs.readFileSync(join(directory, "base/1/PG_VERSION"), "utf8"), "17\n")
          assert.strictEqual(Fs.readFileSync(join(directory, "closed/in it"), "utf8"), "still written")
          assert.deepStrictEqual(
            ["", "global", "closed", "closed/in it", "empty", "global/pg_control", "pg_wal", "base/1"].map((name) =>
              modeOf(join(directory, name)).toString(8)
            ),
            ["700", "755", "500", "666", "400", "600", "700", "755"]
          )
          assert.strictEqual(modeOf(join(directory, "pg_wal/000000010000000000000001")), 0o644)
          assert.deepStrictEqual(
            ["global", "empty", "global/pg_control"].map((name) => Fs.statSync(join(directory, name)).mtimeMs / 1000),
            [1_600_000_000, 1_500_000_000, 1_234_567_890]
          )
        }
      })
    )
  )

  it.live("reads what GNU tar and POSIX tar write: long names, pax headers, directories with a slash", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const from = yield* temporary
        const deep = join("deep".padEnd(90, "p"), "deeper".padEnd(90, "r"))
        const name = join(deep, `${"n".repeat(150)}ü`)
        Fs.mkdirSync(join(from, deep), { recursive: true })
        Fs.writeFileSync(join(from, name), large)
        Fs.utimesSync(join(from, name), 1_400_000_000.25, 1_400_000_000.25)
        for (const format of ["gnu", "pax", "ustar"]) {
          const wanted = format === "ustar" ? deep : name
          const archive = execFileSync(
            "tar",
            ["-C", from, `--format=${format}`, "--no-recursion", "-cf", "-", wanted],
            {
              maxBuffer: 16 * 1024 * 1024
            }
          )
          for (const pieceBytes of [100, 1024 * 1024]) {
            const directory = yield* temporary
            yield* unpack(directory, archive, pieceBytes)
            const stat = Fs.statSync(join(directory, wanted))
            if (format === "ustar") assert.isTrue(stat.isDirectory())
            else assert.isTrue(Fs.readFileSync(join(directory, wanted)).equals(large), format)
            if (format === "pax") assert.strictEqual(stat.mtimeMs, 1_400_000_000_250)
          }
        }
      })
    )
  )

  it.live("replaces a file that is there, link count and all, and takes the last of two entries", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const directory = yield* temporary
        const outside = yield* temporary
        Fs.writeFileSync(join(outside, "shared"), "keep me")
        Fs.linkSync(join(outside, "shared"), join(directory, "file"))
        yield* unpack(directory, Tar.archive({ name: "file", content: "one" }, { name: "file", content: "two" }))
        assert.strictEqual(Fs.readFileSync(join(directory, "file"), "utf8"), "two")
        assert.strictEqual(Fs.readFileSync(join(outside, "shared"), "utf8"), "keep me")
      })
    )
  )

  it.live.skipIf(!isRoot)("gives files, directories and missing parents to the owner", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const directory = yield* temporary
        const archive = Tar.archive(
          { name: "listed", type: "5", mode: 0o755 },
          { name: "parent/large", content: large },
          { name: "small", content: "x" }
        )
        yield* unpack(directory, archive, 1024 * 1024, { uid: 65534, gid: 65533 })
        for (const name of ["listed", "parent", "parent/large", "small"]) {
          const { gid, uid } = Fs.statSync(join(directory, name))
          assert.deepStrictEqual([uid, gid], [65534, 65533], name)
        }
        assert.strictEqual(Fs.statSync(directory).uid, 0)
      })
    )
  )

  it("takes an entry of more than 2 GiB, its size in binary", () => {
    const size = 2 ** 33 + 512
    const header = Tar.header({ name: "huge" })
    header.fill(0, 124, 136)
    header.writeUInt8(0x80, 124)
    header.writeBigUInt64BE(BigInt(size), 128)
    const seen: Array<unknown> = []
    let content = 0
    const reader = new TarReader({
      entry: (entry) => seen.push(entry.size),
      content: (_, from, to) => {
        content += to - from
      },
      done: () => seen.push(content)
    })
    reader.push(Tar.sign(header))
    const piece = Buffer.alloc(64 * 1024 * 1024)
    for (let left = size; left > 0; left -= piece.length) reader.push(piece.subarray(0, Math.min(left, piece.length)))
    reader.push(Tar.endOfArchive)
    reader.end()
    assert.deepStrictEqual(seen, [size, size])
  })
})

describe("refusing", () => {
  const cases = [
    ["an absolute name", [{ name: "/tmp/untar-absolute" }], /\/tmp\/untar-absolute is an absolute path/],
    ["a name that leads out", [{ name: "base/../../out" }], /base\/\.\.\/\.\.\/out leads out/],
    ["two dots in a directory", [{ name: "..", type: "5" }], /\.\. leads out/],
    ["a long name that leads out", [Tar.pax({ path: `${"x/".repeat(60)}../out` }), { name: "x" }], /leads out/],
    ["a symlink", [{ name: "link", type: "2", linkname: "/etc" }], /link is a symlink/],
    ["a hard link", [{ name: "hard", type: "1", linkname: "/etc/passwd" }], /hard is a hard link/],
    ["a character device", [{ name: "null", type: "3" }], /null is a device/],
    ["a block device", [{ name: "disk", type: "4" }], /disk is a device/],
    ["a fifo", [{ name: "pipe", type: "6" }], /pipe is a fifo/],
    ["an unknown type", [{ name: "sparse", type: "S" }], /sparse is a tar entry of unknown type/],
    ["a file through a link that is there", [{ name: "outside/file" }], /outside\/file goes through outside/],
    ["a directory through a link", [{ name: "outside/dir", type: "5" }], /goes through outside/],
    ["a link in place of a directory", [{ name: "outside", type: "5" }], /goes through outside/],
    ["a file in place of a link", [{ name: "victim", content: "x" }], /victim is there already and not a file/],
    ["a file in place of a dangling link", [{ name: "dangling", content: "x" }], /dangling is there already/],
    ["a file in place of a directory", [{ name: "there", content: "x" }], /there is there already and not a file/],
    ["a directory under a file", [{ name: "plain/below" }], /goes through plain, which is not a directory/]
  ] as const

  it.live.each(cases)("%s", ([, entries, expected]) =>
    Effect.scoped(
      Effect.gen(function* () {
        const directory = yield* temporary
        const outside = yield* temporary
        Fs.writeFileSync(join(outside, "victim"), "untouched")
        Fs.symlinkSync(outside, join(directory, "outside"))
        Fs.symlinkSync(join(outside, "victim"), join(directory, "victim"))
        Fs.symlinkSync(join(outside, "new"), join(directory, "dangling"))
        Fs.mkdirSync(join(directory, "there"))
        Fs.writeFileSync(join(directory, "plain"), "")
        const before = openFiles()
        const error = yield* Effect.flip(unpack(directory, Tar.archive({ name: "large", content: large }, ...entries)))
        assert.strictEqual(error._tag, "EntryRefused")
        assert.match(error.message, expected)
        assert.strictEqual(openFiles(), before)
        assert.deepStrictEqual(Fs.readdirSync(outside), ["victim"])
        assert.strictEqual(Fs.readFileSync(join(outside, "victim"), "utf8"), "untouched")
      })
    )
  )
})

describe("damage", () => {
  const whole = Tar.archive({ name: "dir", type: "5" }, { name: "file", content: large })
  const damaged = (change: (header: Buffer) => void): Buffer => {
    const header = Tar.header({ name: "file" })
    change(header)
    return Buffer.concat([Tar.sign(header), Tar.endOfArchive])
  }
  const cases = [
    ["cut in a header", whole.subarray(0, 700), /cut short/],
    ["cut in a file", whole.subarray(0, 100_000), /ends in the middle of file/],
    ["cut in the padding of a file", whole.subarray(0, 512 + 512 + large.length + 1), /ends in the middle of file/],
    ["without its end mark", whole.subarray(0, whole.length - 1024), /no end mark/],
    ["with half of its end mark", whole.subarray(0, whole.length - 512), /no end mark/],
    ["with a piece of a block after its end", Buffer.concat([whole, Buffer.alloc(100)]), /cut short/],
    ["empty", Buffer.alloc(0), /no end mark/],
    ["not a tar", large, /not a tar archive/],
    [
      "with a wrong checksum",
      Buffer.concat([whole.subarray(0, 520), Buffer.from("x"), whole.subarray(521)]),
      /damaged/
    ],
    ["with a size that is no number", damaged((header) => header.write("12x", 124)), /malformed number/],
    ["with a size beyond reason", damaged((header) => header.fill(0xff, 124, 136)), /malformed number/],
    ["with a broken pax header", Tar.archive({ name: "p", type: "x", content: "nonsense" }), /malformed pax/]
  ] as const

  it.live.each(cases)("an archive %s is an error", ([, archive, expected]) =>
    Effect.scoped(
      Effect.gen(function* () {
        const directory = yield* temporary
        const before = openFiles()
        const error = yield* Effect.flip(unpack(directory, archive))
        assert.strictEqual(error._tag, "TarMalformed")
        assert.match(error.message, expected)
        assert.strictEqual(openFiles(), before)
      })
    )
  )

  it.live("zeros after the end, and between entries, are read over", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const directory = yield* temporary
        yield* unpack(directory, Buffer.concat([whole, Tar.archive({ name: "second" }), Buffer.alloc(512 * 99)]), 4096)
        assert.deepStrictEqual(Fs.readdirSync(directory), ["dir", "file", "second"])
      })
    )
  )

  it.live.skipIf(!isRoot)("a full disk is told by its code, and no file stays open", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const directory = yield* temporary
        yield* Effect.acquireRelease(
          Effect.sync(() => execFileSync("mount", ["-t", "tmpfs", "-o", "size=128k", "tmpfs", directory])),
          () => Effect.sync(() => execFileSync("umount", [directory]))
        )
        for (const pieceBytes of [4096, 1024 * 1024]) {
          const before = openFiles()
          const error = yield* Effect.flip(
            unpack(directory, Tar.archive({ name: "base/1/2", content: large }), pieceBytes)
          )
          assert.isTrue(error._tag === "UnpackFailed" && error.code === "ENOSPC" && error.path === "base/1/2")
          assert.match(error.message, /cannot unpack base\/1\/2/)
          assert.strictEqual(openFiles(), before)
        }
      })
    )
  )
})
