import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { gzipSync } from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { TenantId, TimelineId } from "../../src/domain/Identifiers.ts"
import * as Lsn from "../../src/domain/Lsn.ts"
import { type BasebackupRequest, Deadlines, Pageserver } from "../../src/layers/Pageserver.ts"
import * as PgServer from "../support/pgServer.ts"
import * as Tar from "../support/tarball.ts"

const tenantId = Schema.decodeSync(TenantId)("9e4c8f36063c6c6e93bc20d65a820f3d")
const timelineId = Schema.decodeSync(TimelineId)("814ce0bd2ae452e11575402e8296b64d")

const temporary = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "pageserver-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
)

const noise = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => Math.imul(i, 2654435761) >>> 24))
const style = "pageserver"
const tar = Tar.archive(
  { name: "global", type: "5", mode: 0o755, style },
  { name: "base/1", type: "5", mode: 0o755, style },
  ...Array.from(
    { length: 200 },
    (_, i) => ({ name: `base/1/${i}`, content: noise.subarray(0, i * 100), style }) as const
  ),
  { name: "base/1/large", content: noise, style },
  { name: "global/pg_control", content: noise.subarray(0, 8192), style }
)
const backup = gzipSync(tar)

const shortDeadlines = Layer.succeed(Deadlines, {
  connect: Duration.millis(200),
  firstByte: Duration.millis(400),
  stall: Duration.millis(200),
  lastWords: Duration.millis(200)
})

const run = (request: Partial<BasebackupRequest> & Pick<BasebackupRequest, "url" | "pgdata">) =>
  Effect.flatMap(Pageserver, (pageserver) =>
    pageserver.basebackup({
      tenantId,
      timelineId,
      lsn: Lsn.zero,
      mode: "primary",
      token: undefined,
      owner: undefined,
      ...request
    })
  ).pipe(Effect.provide(Pageserver.layer.pipe(Layer.provide(shortDeadlines))))

/** A pageserver that trusts and answers with these bytes, then closes. */
const sending = (...answer: ReadonlyArray<Buffer>) =>
  PgServer.listen(async (peer) => {
    await peer.send(PgServer.trusted)
    await peer.next()
    await peer.send(...answer)
    peer.end()
  })

/** Files below a directory that this process has open. */
const openIn = (directory: string): ReadonlyArray<string> =>
  Fs.readdirSync("/proc/self/fd").flatMap((fd) => {
    const link = `/proc/self/fd/${fd}`
    // The directory being listed is one of them, and closed by now.
    const path = Fs.lstatSync(link, { throwIfNoEntry: false }) === undefined ? "" : Fs.readlinkSync(link)
    return path.startsWith(directory) ? [path] : []
  })

/** The error of an attempt against this server; asserts that it leaves neither a socket nor a file open. */
const errorFrom = (server: PgServer.PgServer, more: Partial<BasebackupRequest> = {}) =>
  Effect.scoped(
    Effect.gen(function* () {
      const pgdata = yield* temporary
      const error = yield* run({ url: server.url, pgdata, ...more }).pipe(Effect.flip, Effect.timeout("5 seconds"))
      yield* server.allClosed
      assert.deepStrictEqual(openIn(pgdata), [])
      return error
    })
  )

describe("a base backup", () => {
  it.live("S-015 is fetched and unpacked; times and compressed bytes are told", () =>
    Effect.scoped(
      Effect.gen(function* () {
        for (const pieceBytes of [8192, 100, backup.length]) {
          const server = yield* sending(PgServer.copyOf(backup, pieceBytes), PgServer.copyEnd)
          const pgdata = yield* temporary
          Fs.writeFileSync(join(pgdata, "postgresql.conf"), "kept")
          const done = yield* run({ url: server.url, pgdata })
          assert.strictEqual(done.bytes, backup.length)
          assert.isTrue(Number.isInteger(done.connectMicros) && done.connectMicros > 0)
          assert.isTrue(Number.isInteger(done.millis) && done.millis >= Math.floor(done.connectMicros / 1000))
          assert.isTrue(Fs.readFileSync(join(pgdata, "base/1/large")).equals(noise))
          for (let i = 0; i < 200; i++) {
            assert.isTrue(Fs.readFileSync(join(pgdata, `base/1/${i}`)).equals(noise.subarray(0, i * 100)))
          }
          assert.strictEqual(Fs.statSync(join(pgdata, "global/pg_control")).size, 8192)
          assert.strictEqual(Fs.readFileSync(join(pgdata, "postgresql.conf"), "utf8"), "kept")
          yield* server.allClosed
          assert.deepStrictEqual(openIn(pgdata), [])
        }
      })
    )
  )

  it.live("S-035 is asked for in the form of each mode, with its start-up parameters in order", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const seen: Array<unknown> = []
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.trusted)
          seen.push(peer.startup, (await peer.next())?.text)
          await peer.send(PgServer.copyOf(backup), PgServer.copyEnd)
        })
        const lsn = Lsn.fromBigInt(0x1696070n)
        const pgdata = yield* temporary
        yield* run({ url: `host=127.0.0.1 port=${server.port} user=cloud_admin`, pgdata, lsn })
        yield* run({ url: `postgresql://u@127.0.0.1:${server.port}/db`, pgdata, mode: "replica" })
        yield* run({ url: `postgresql://u@127.0.0.1:${server.port}?options=-c%20x=y`, pgdata, lsn, mode: "static" })
        const parameters = (user: string, mode: string, database?: string) => [
          ["client_encoding", "UTF8"],
          ["user", user],
          ...(database === undefined ? [] : [["database", database]]),
          ["options", `-c neon.compute_mode=${mode}`],
          ["application_name", "compute_ctl"]
        ]
        const command = `basebackup ${tenantId} ${timelineId}`
        assert.deepStrictEqual(seen, [
          parameters("cloud_admin", "primary"),
          `${command} 0/1696070 --gzip`,
          parameters("u", "replica", "db"),
          `${command} --gzip --replica`,
          parameters("u", "static"),
          `${command} 0/1696070 --gzip --replica`
        ])
      })
    )
  )

  it.live("S-037 the token comes before the password of the address; a refused one may be accepted later", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const passwords: Array<string | undefined> = []
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.cleartextPassword)
          const password = (await peer.next())?.text
          passwords.push(password)
          if (password === "T") {
            await peer.send(PgServer.tokenAccepted)
            await peer.next()
            await peer.send(PgServer.copyOf(backup), PgServer.copyEnd)
          } else {
            await peer.send(PgServer.errorResponse("JWT authentication error"))
            peer.end()
          }
        })
        const url = `postgresql://no_user:other@127.0.0.1:${server.port}`
        yield* run({ url, pgdata: yield* temporary, token: Redacted.make("T") })
        const error = yield* errorFrom(server, { url, token: Redacted.make("expired") })
        assert.deepStrictEqual([error._tag, error.message], ["BasebackupFailed", "JWT authentication error"])
        assert.deepStrictEqual(passwords, ["T", "expired"])
      })
    )
  )

  it.live.skipIf(process.getuid?.() !== 0)("is given to the owner", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* sending(PgServer.copyOf(backup), PgServer.copyEnd)
        const pgdata = yield* temporary
        yield* run({ url: server.url, pgdata, owner: { uid: 65534, gid: 65534 } })
        assert.strictEqual(Fs.statSync(join(pgdata, "base/1/large")).uid, 65534)
      })
    )
  )
})

describe("an attempt that may be repeated", () => {
  const trouble = PgServer.errorResponse("basebackup-before-control-file")
  const truncated = backup.subarray(0, backup.length - 100)
  const corrupted = Buffer.from(backup)
  corrupted.fill(0xff, 2000, 2100)
  const wrongChecksum = Buffer.from(backup)
  wrongChecksum.writeUInt32LE(0, backup.length - 8)
  const cases = [
    ["S-038-a the server refuses at once", [trouble, PgServer.ready], /^basebackup-before-control-file$/],
    [
      "S-039 with its own words",
      [PgServer.errorResponse("Not found: Timeline"), PgServer.ready],
      /^Not found: Timeline$/
    ],
    ["the server fails in the middle", [PgServer.copyOf(truncated), trouble, PgServer.ready], /^basebackup-before/],
    ["S-038-b the server fails after the whole archive", [PgServer.copyOf(backup), trouble], /^basebackup-before/],
    ["S-038-b or even after CopyDone", [PgServer.copyOf(backup), PgServer.copyDone, trouble], /^basebackup-before/],
    ["the connection is cut", [PgServer.copyOf(truncated)], /closed by the server/],
    ["the connection is cut after the whole archive", [PgServer.copyOf(backup)], /closed by the server/],
    ["and after CopyDone", [PgServer.copyOf(backup), PgServer.copyDone], /closed by the server/],
    ["the gzip stream is cut short", [PgServer.copyOf(truncated), PgServer.copyEnd], /gzip stream is cut short/],
    ["only its last byte is missing", [PgServer.copyOf(backup.subarray(0, -1)), PgServer.copyEnd], /cut short/],
    ["the gzip stream is empty", [PgServer.copyOutResponse, PgServer.copyEnd], /cut short/],
    ["the gzip stream is damaged", [PgServer.copyOf(corrupted), PgServer.copyEnd], /not a gzip stream, or damaged/],
    ["its checksum is wrong", [PgServer.copyOf(wrongChecksum), PgServer.copyEnd], /not a gzip stream, or damaged/],
    ["more follows after its end", [PgServer.copyOf(Buffer.concat([backup, noise])), PgServer.copyEnd], /bytes follow/],
    ["it is no gzip stream at all", [PgServer.copyOf(tar), PgServer.copyEnd], /not a gzip stream/],
    ["what is in it is no tar archive", [PgServer.copyOf(gzipSync(noise)), PgServer.copyEnd], /not a tar archive/],
    [
      "the archive has no end mark",
      [PgServer.copyOf(gzipSync(tar.subarray(0, -1024))), PgServer.copyEnd],
      /no end mark/
    ],
    [
      "the archive is cut",
      [PgServer.copyOf(gzipSync(tar.subarray(0, 2_000_000))), PgServer.copyEnd],
      /in the middle of base/
    ],
    ["the answer is garbage", [Buffer.from("garbage, and quite a lot of it")], /does not speak/],
    ["the answer is no COPY", [PgServer.commandComplete("SELECT 1"), PgServer.ready], /with a COPY/],
    ["the server explains its garbage", [PgServer.copyOf(noise), trouble], /^basebackup-before-control-file$/]
  ] as const

  it.live.each(cases)("%s", ([, answer, expected]) =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* sending(...answer)
        const error = yield* errorFrom(server)
        assert.strictEqual(error._tag, "BasebackupFailed")
        assert.match(error.message, expected)
      })
    )
  )

  it.live("the server explains a moment later what was wrong with what it sent", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.trusted)
          await peer.next()
          await peer.send(PgServer.copyOf(noise))
          await new Promise((resolve) => setTimeout(resolve, 50))
          await peer.send(trouble)
        })
        assert.strictEqual((yield* errorFrom(server)).message, "basebackup-before-control-file")
      })
    )
  )

  it.live("the server hangs: before it is ready, before it answers, and in the middle", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const hangs = [
          [[], /was not ready within 200ms/],
          [[PgServer.trusted], /did not answer within 400ms/],
          [[PgServer.trusted, PgServer.copyOutResponse], /sent nothing within 200ms/],
          [[PgServer.trusted, PgServer.copyOf(truncated)], /sent nothing within 200ms/],
          [[PgServer.trusted, PgServer.copyOf(noise)], /not a gzip stream/],
          [[PgServer.trusted, PgServer.copyOf(backup), PgServer.copyDone], /sent nothing within 200ms/]
        ] as const
        for (const [parts, expected] of hangs) {
          const server = yield* PgServer.listen(async (peer) => {
            for (const [index, part] of parts.entries()) {
              if (index > 0) await peer.next()
              await peer.send(part)
            }
          })
          const error = yield* errorFrom(server)
          assert.strictEqual(error._tag, "BasebackupFailed")
          assert.match(error.message, expected)
        }
      })
    )
  )

  it.live("a slow server is waited for as long as it sends", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.trusted)
          await peer.next()
          await new Promise((resolve) => setTimeout(resolve, 300))
          const answer = Buffer.concat([PgServer.copyOf(backup), PgServer.copyEnd])
          for (let at = 0; at < answer.length; at += answer.length / 5) {
            await peer.send(answer.subarray(Math.floor(at), Math.floor(at + answer.length / 5)))
            await new Promise((resolve) => setTimeout(resolve, 100))
          }
        })
        const done = yield* run({ url: server.url, pgdata: yield* temporary })
        assert.isAbove(done.millis, 600)
      })
    )
  )

  it.live("nobody listens", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const error = yield* Effect.flip(run({ url: "postgresql://127.0.0.1:1", pgdata: yield* temporary }))
        assert.strictEqual(error._tag, "BasebackupFailed")
        assert.match(error.message, /cannot connect to 127\.0\.0\.1:1/)
      })
    )
  )
})

describe("an attempt that can never succeed", () => {
  it.live("an address that is none is not tried, and its password is not repeated", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const error = yield* Effect.flip(run({ url: "postgresql://u:secret@host:port", pgdata: yield* temporary }))
        assert.strictEqual(error._tag, "BasebackupImpossible")
        assert.match(error.message, /malformed address of the pageserver/)
        assert.notInclude(error.message, "secret")
      })
    )
  )

  it.live("an archive that tries to leave PGDATA, or to make a link", () =>
    Effect.scoped(
      Effect.gen(function* () {
        for (const entry of [{ name: "../out" }, { name: "/etc/cron.d/x" }, { name: "l", type: "2", linkname: "/" }]) {
          const archive = gzipSync(Tar.archive({ name: "base/1/large", content: noise }, entry))
          const error = yield* errorFrom(yield* sending(PgServer.copyOf(archive), PgServer.copyEnd))
          assert.strictEqual(error._tag, "BasebackupImpossible")
          assert.include(error.message, entry.name)
        }
      })
    )
  )

  it.live.skipIf(process.getuid?.() !== 0)("a full disk", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const pgdata = yield* temporary
        yield* Effect.acquireRelease(
          Effect.sync(() => execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", pgdata])),
          () => Effect.sync(() => execFileSync("umount", [pgdata]))
        )
        const server = yield* sending(PgServer.copyOf(backup), PgServer.copyEnd)
        const error = yield* errorFrom(server, { pgdata })
        assert.strictEqual(error._tag, "BasebackupImpossible")
        assert.match(`${error.message} ${error.cause}`, /cannot unpack base\/1\/\S+ Error: ENOSPC/)
      })
    )
  )
})

describe("interruption", () => {
  it.live("in the middle of an attempt ends it at once, with no socket and no file left open", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.trusted)
          await peer.next()
          await peer.send(PgServer.copyOutResponse)
          const piece = PgServer.copyData(backup.subarray(0, 1000))
          await peer.send(piece)
          for (let at = 1000; at < backup.length; at += 1000) {
            await peer.send(PgServer.copyData(backup.subarray(at, at + 1000)))
            await new Promise((resolve) => setTimeout(resolve, 1))
          }
        })
        const pgdata = yield* temporary
        const fiber = yield* Effect.forkChild(run({ url: server.url, pgdata }))
        while (!Fs.existsSync(join(pgdata, "base/1/100"))) yield* Effect.sleep("1 millis")
        const begun = performance.now()
        yield* Fiber.interrupt(fiber)
        assert.isBelow(performance.now() - begun, 100)
        yield* server.allClosed
        assert.deepStrictEqual(openIn(pgdata), [])
      })
    )
  )
})
