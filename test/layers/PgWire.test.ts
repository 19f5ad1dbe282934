import { execFileSync, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { once } from "node:events"
import * as Fs from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type { PostgresTarget } from "../../src/domain/ConnString.ts"
import * as Owner from "../../src/layers/Owner.ts"
import * as PgWire from "../../src/layers/PgWire.ts"
import * as PostgresInstall from "../../src/local/PostgresInstall.ts"
import { cacheDir } from "../local/fixture.ts"
import * as PgServer from "../support/pgServer.ts"

const target = (port: number, more: Partial<PostgresTarget> = {}): PostgresTarget => ({
  host: "127.0.0.1",
  port,
  user: "no_user",
  database: undefined,
  password: undefined,
  options: undefined,
  ...more
})

/** A server that trusts, and answers each query in turn with bytes. */
const answering = (...answers: ReadonlyArray<Buffer>) =>
  PgServer.listen(async (peer) => {
    await peer.send(PgServer.trusted)
    for (const answer of answers) {
      if ((await peer.next()) === undefined) return
      await peer.send(answer)
    }
  })

const oneRow = Buffer.concat([
  PgServer.rowDescription("n"),
  PgServer.dataRow("1"),
  PgServer.commandComplete("SELECT 1"),
  PgServer.ready
])

/** All of a COPY, in as many pieces as it came. */
const collect = (copy: PgWire.CopyOut) =>
  Effect.gen(function* () {
    const pieces: Array<Buffer> = []
    for (let piece = yield* copy.next; piece !== undefined; piece = yield* copy.next) pieces.push(Buffer.from(piece))
    return Buffer.concat(pieces)
  })

const pause = Schedule.spaced("100 millis")

const errorOf = <A, R>(effect: Effect.Effect<A, PgWire.PgError, R>) =>
  effect.pipe(Effect.flip, Effect.timeout("5 seconds"))

describe("connecting", () => {
  it.live("sends the start-up parameters in the order given, client_encoding first, and no SSLRequest", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const seen: Array<unknown> = []
        const server = yield* PgServer.listen(async (peer) => {
          seen.push(peer.startup)
          await peer.send(PgServer.trusted)
        })
        yield* PgWire.connect({
          target: target(server.port, { database: "db", options: "-c replaced=yes" }),
          parameters: { options: "-c neon.compute_mode=primary", application_name: "compute_ctl" }
        })
        yield* PgWire.connect({ target: target(server.port, { options: "-c kept=yes" }) })
        assert.deepStrictEqual(seen, [
          [
            ["client_encoding", "UTF8"],
            ["user", "no_user"],
            ["database", "db"],
            ["options", "-c neon.compute_mode=primary"],
            ["application_name", "compute_ctl"]
          ],
          [
            ["client_encoding", "UTF8"],
            ["user", "no_user"],
            ["options", "-c kept=yes"]
          ]
        ])
      })
    )
  )

  it.live("gives the token as password to a server that sends neither server_version nor BackendKeyData", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const passwords: Array<string | undefined> = []
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.cleartextPassword)
          passwords.push((await peer.next())?.text)
          await peer.send(PgServer.tokenAccepted)
          await peer.next()
          await peer.send(oneRow)
        })
        const session = yield* PgWire.connect({
          target: target(server.port, { password: "from the url" }),
          password: Redacted.make("tok")
        })
        assert.strictEqual((yield* session.query("SELECT 1"))[0]?.rows[0]?.[0], "1")
        assert.deepStrictEqual(passwords, ["tok"])
      })
    )
  )

  it.live("answers an md5 request with the salted hash", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const passwords: Array<string | undefined> = []
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.auth(5, Buffer.from([1, 2, 3, 4])))
          passwords.push((await peer.next())?.text)
          await peer.send(PgServer.trusted)
        })
        yield* PgWire.connect({ target: target(server.port, { password: "secret" }) })
        const inner = createHash("md5").update("secretno_user").digest("hex")
        const outer = createHash("md5")
          .update(inner)
          .update(Buffer.from([1, 2, 3, 4]))
          .digest("hex")
        assert.deepStrictEqual(passwords, [`md5${outer}`])
      })
    )
  )

  it.live("fails with the server's text and SQLSTATE when the token is refused", () =>
    Effect.gen(function* () {
      const server = yield* PgServer.listen(async (peer) => {
        await peer.send(PgServer.cleartextPassword)
        await peer.next()
        await peer.send(PgServer.errorResponse("JWT authentication error"))
        peer.end()
      })
      const error = yield* errorOf(
        Effect.scoped(PgWire.connect({ target: target(server.port), password: Redacted.make("wrong") }))
      )
      assert.strictEqual(error.message, "JWT authentication error")
      assert.strictEqual(error.code, "XX000")
      yield* server.allClosed
    }).pipe(Effect.scoped)
  )

  it.live("says so when a password is asked for and there is none, or a method is not known", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(peer.startup.some(([, value]) => value === "gss") ? PgServer.auth(7) : PgServer.auth(3))
        })
        const none = yield* errorOf(Effect.scoped(PgWire.connect({ target: target(server.port) })))
        assert.match(none.message, /asks for a password/)
        const gss = yield* errorOf(Effect.scoped(PgWire.connect({ target: target(server.port, { user: "gss" }) })))
        assert.match(gss.message, /authentication method 7/)
        yield* server.allClosed
      })
    )
  )

  it.live("does not trust a server that leaves its proof of the password out", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.auth(10, "SCRAM-SHA-256\0\0"))
          await peer.next()
          await peer.send(PgServer.trusted)
        })
        const error = yield* errorOf(
          Effect.scoped(PgWire.connect({ target: target(server.port, { password: "secret" }) }))
        )
        assert.match(error.message, /did not prove/)
        yield* server.allClosed
      })
    )
  )

  it.live("gives up at its deadline on a server that accepts and says nothing", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* PgServer.listen(async (peer) => peer.closed)
        const error = yield* errorOf(
          Effect.scoped(PgWire.connect({ target: target(server.port), connectTimeout: "100 millis" }))
        )
        assert.match(error.message, /was not ready within 100ms/)
        yield* server.allClosed
      })
    )
  )

  it.live("can be interrupted while it waits, and leaves no socket", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* PgServer.listen(async (peer) => peer.closed)
        const fiber = yield* Effect.forkChild(Effect.scoped(PgWire.connect({ target: target(server.port) })))
        while (server.open() === 0) yield* Effect.sleep("5 millis")
        yield* Fiber.interrupt(fiber)
        yield* server.allClosed
      })
    )
  )

  it.live("names the address that refuses the connection, or speaks something else", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const refused = yield* errorOf(Effect.scoped(PgWire.connect({ target: target(1) })))
        assert.match(refused.message, /cannot connect to 127\.0\.0\.1:1/)
        const server = yield* PgServer.listen((peer) => peer.send(Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n")))
        const http = yield* errorOf(Effect.scoped(PgWire.connect({ target: target(server.port) })))
        assert.match(http.message, /does not speak the PostgreSQL protocol/)
        yield* server.allClosed
      })
    )
  )

  it.live("reaches a server through its unix socket when the host is a directory", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const directory = yield* Effect.acquireRelease(
          Effect.sync(() => Fs.mkdtempSync("/tmp/pgwire-")),
          (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
        )
        yield* PgServer.listen((peer) => peer.send(PgServer.trusted), { path: join(directory, ".s.PGSQL.5999") })
        yield* PgWire.connect({ target: target(5999, { host: directory }) })
      })
    )
  )
})

describe("query", () => {
  it.live("brings all result sets as text, NULL as null, in any cut of the stream", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const answer = Buffer.concat([
          PgServer.rowDescription("a", "b"),
          PgServer.dataRow("1", null),
          PgServer.dataRow("", "ü"),
          PgServer.commandComplete("SELECT 2"),
          PgServer.commandComplete("CREATE TABLE"),
          PgServer.rowDescription("c"),
          PgServer.commandComplete("SELECT 0"),
          PgServer.ready
        ])
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.trusted)
          await peer.next()
          for (const byte of answer) await peer.send(Buffer.from([byte]))
          await peer.next()
          await peer.send(answer)
        })
        const session = yield* PgWire.connect({ target: target(server.port) })
        const expected = [
          {
            tag: "SELECT 2",
            columns: ["a", "b"],
            rows: [
              ["1", null],
              ["", "ü"]
            ]
          },
          { tag: "CREATE TABLE", columns: [], rows: [] },
          { tag: "SELECT 0", columns: ["c"], rows: [] }
        ]
        assert.deepStrictEqual(yield* session.query("three statements"), expected)
        assert.deepStrictEqual(yield* session.query("once more"), expected)
      })
    )
  )

  it.live("fails with the server's error, and the session stays usable", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* answering(
          Buffer.concat([PgServer.errorResponse("syntax error", "42601"), PgServer.ready]),
          oneRow
        )
        const session = yield* PgWire.connect({ target: target(server.port) })
        const error = yield* errorOf(session.query("SELEC"))
        assert.deepStrictEqual([error.message, error.code], ["syntax error", "42601"])
        assert.strictEqual((yield* session.query("SELECT 1")).length, 1)
      })
    )
  )

  it.live("prefers what a server says before it closes; a close without a word is an error too", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.trusted)
          const query = await peer.next()
          if (query?.text === "loud") await peer.send(PgServer.errorResponse("shutdown", "57P01"))
          peer.end()
        })
        const ask = (sql: string) =>
          errorOf(Effect.scoped(Effect.flatMap(PgWire.connect({ target: target(server.port) }), (s) => s.query(sql))))
        const loud = yield* ask("loud")
        assert.deepStrictEqual([loud.message, loud.code], ["shutdown", "57P01"])
        assert.match((yield* ask("silent")).message, /closed by the server/)
        yield* server.allClosed
      })
    )
  )

  it.live("interrupted, it closes the session and says so to the next caller", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* answering(Buffer.alloc(0))
        const session = yield* PgWire.connect({ target: target(server.port) })
        const result = yield* Effect.timeoutOption(session.query("SELECT pg_sleep(100)"), "50 millis")
        assert.strictEqual(result._tag, "None")
        yield* server.allClosed
        assert.match((yield* errorOf(session.query("SELECT 1"))).message, /was closed/)
      })
    )
  )

  it.live("refuses NUL in the text before it is sent", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* answering(oneRow)
        const session = yield* PgWire.connect({ target: target(server.port) })
        assert.match((yield* errorOf(session.query("a\0b"))).message, /NUL/)
        assert.strictEqual((yield* session.query("SELECT 1")).length, 1)
      })
    )
  )

  it.live("says Terminate when the Scope closes an idle session", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const types: Array<string | undefined> = []
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.trusted)
          types.push((await peer.next())?.type)
        })
        yield* Effect.scoped(PgWire.connect({ target: target(server.port) }))
        yield* server.allClosed
        assert.deepStrictEqual(types, ["X"])
      })
    )
  )
})

describe("copyOut", () => {
  const payload = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7) % 251))

  it.live("brings the payload unchanged, whatever the sizes of messages and reads, and the session stays usable", () =>
    Effect.scoped(
      Effect.gen(function* () {
        for (const [pieceBytes, cut] of [
          [8192, 1_000_000],
          [1, 1_000_000],
          [1_000_000, 1_000_000],
          [999, 1001],
          [8192, 4099]
        ] as const) {
          const part = payload.subarray(0, pieceBytes === 1 ? 5000 : payload.length)
          const server = yield* PgServer.listen(async (peer) => {
            await peer.send(PgServer.trusted)
            await peer.next()
            const answer = Buffer.concat([PgServer.copyOf(part, pieceBytes), PgServer.copyEnd])
            for (let at = 0; at < answer.length; at += cut) await peer.send(answer.subarray(at, at + cut))
            await peer.next()
            await peer.send(oneRow)
          })
          const session = yield* PgWire.connect({ target: target(server.port), bufferBytes: 16 * 1024 })
          const copied = yield* Effect.flatMap(session.copyOut("COPY"), collect)
          assert.isTrue(copied.equals(part), `messages of ${pieceBytes}, sent by ${cut}`)
          assert.strictEqual((yield* session.query("SELECT 1")).length, 1)
        }
      })
    )
  )

  it.live("S-038-b an error after the whole payload, or even after CopyDone, is an error", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const late = PgServer.errorResponse("late trouble", "58030")
        for (const end of [late, Buffer.concat([PgServer.copyDone, late, PgServer.ready])]) {
          const server = yield* answering(Buffer.concat([PgServer.copyOf(payload), end]))
          const error = yield* errorOf(
            Effect.scoped(
              Effect.gen(function* () {
                const session = yield* PgWire.connect({ target: target(server.port) })
                return yield* collect(yield* session.copyOut("COPY"))
              })
            )
          )
          assert.deepStrictEqual([error.message, error.code], ["late trouble", "58030"])
          yield* server.allClosed
        }
      })
    )
  )

  it.live("fails when the server refuses, closes in the middle, ends without CopyDone, or does not copy at all", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const cases = [
          [Buffer.concat([PgServer.errorResponse("not found"), PgServer.ready]), /^not found$/],
          [PgServer.copyOf(payload), /closed by the server/],
          [Buffer.concat([PgServer.copyOf(payload), PgServer.copyDone]), /closed by the server/],
          [Buffer.concat([PgServer.copyOf(payload), PgServer.commandComplete("SELECT 1"), PgServer.ready]), /without/],
          [Buffer.concat([PgServer.copyOf(payload), PgServer.copyDone, PgServer.ready]), /without completing/],
          [oneRow, /does not answer this command with a COPY/],
          [Buffer.concat([PgServer.copyOutResponse, Buffer.from("d\0\0\0\0")]), /does not speak/]
        ] as const
        for (const [answer, expected] of cases) {
          const server = yield* PgServer.listen(async (peer) => {
            await peer.send(PgServer.trusted)
            await peer.next()
            await peer.send(answer)
            peer.end()
          })
          const error = yield* errorOf(
            Effect.scoped(
              Effect.gen(function* () {
                const session = yield* PgWire.connect({ target: target(server.port) })
                return yield* collect(yield* session.copyOut("COPY"))
              })
            )
          )
          assert.match(error.message, expected)
          yield* server.allClosed
        }
      })
    )
  )

  it.live("a reader that is not ready holds the server back", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const block = PgServer.copyData(Buffer.alloc(64 * 1024))
        let sent = 0
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.trusted)
          await peer.next()
          await peer.send(PgServer.copyOutResponse)
          for (; sent < 1000; sent++) await peer.send(block)
          await peer.send(PgServer.copyEnd)
        })
        const session = yield* PgWire.connect({ target: target(server.port) })
        const copy = yield* session.copyOut("COPY")
        let stopped = -1
        while (stopped !== sent) {
          stopped = sent
          yield* Effect.sleep("100 millis")
        }
        assert.isBelow(sent, 500)
        assert.strictEqual((yield* collect(copy)).length, 1000 * 64 * 1024)
      })
    )
  )

  it.live("interrupted, `next` goes on where it was; closing the Scope in the middle leaves no socket", () =>
    Effect.scoped(
      Effect.gen(function* () {
        let proceed = () => {}
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.trusted)
          await peer.next()
          await peer.send(PgServer.copyOutResponse)
          await new Promise<void>((resolve) => {
            proceed = resolve
          })
          await peer.send(PgServer.copyData(Buffer.from("late")))
        })
        yield* Effect.scoped(
          Effect.gen(function* () {
            const session = yield* PgWire.connect({ target: target(server.port) })
            const copy = yield* session.copyOut("COPY")
            assert.strictEqual((yield* Effect.timeoutOption(copy.next, "50 millis"))._tag, "None")
            proceed()
            assert.strictEqual(Buffer.from((yield* copy.next) ?? "").toString(), "late")
            assert.match((yield* errorOf(session.query("SELECT 1"))).message, /has not finished/)
          })
        )
        yield* server.allClosed
      })
    )
  )
})

describe("a real PostgreSQL", () => {
  const start = Effect.gen(function* () {
    const user = yield* Owner.resolve(undefined)
    const { bindir } = yield* PostgresInstall.find({ major: PostgresInstall.bundledMajor, user, cacheDir })
    const owner = user === undefined ? {} : { uid: user.uid, gid: user.gid }
    const directory = Fs.mkdtempSync("/tmp/pgwire-")
    if (user !== undefined) Fs.chownSync(directory, user.uid, user.gid)
    const data = join(directory, "data")
    Fs.writeFileSync(join(directory, "password"), "sécret", { mode: 0o644 })
    execFileSync(
      join(bindir, "initdb"),
      ["-D", data, "-U", "cloud_admin", "--auth=scram-sha-256", `--pwfile=${directory}/password`, "--no-sync"],
      owner
    )
    Fs.writeFileSync(join(data, "pg_hba.conf"), "local all md5 md5\nlocal all all scram-sha-256\n")
    const child = spawn(
      join(bindir, "postgres"),
      ["-D", data, "-c", "listen_addresses=", "-c", `unix_socket_directories=${directory}`, "-c", "fsync=off"],
      { ...owner, stdio: "ignore" }
    )
    return { child, directory }
  })

  const postgres = Effect.acquireRelease(start, ({ child, directory }) =>
    Effect.promise(async () => {
      const exited = once(child, "exit")
      child.kill("SIGINT")
      await exited
      Fs.rmSync(directory, { recursive: true })
    })
  )

  it.live("is reached with SCRAM and md5; errors, NULLs and COPY are as it sends them", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { directory } = yield* postgres
        const admin = target(5432, { host: directory, user: "cloud_admin", database: "postgres", password: "sécret" })
        const session = yield* PgWire.connect({ target: admin }).pipe(Effect.retry({ times: 100, schedule: pause }))
        const sets = yield* session.query(
          "CREATE TEMP TABLE t AS SELECT 1 AS a, NULL AS b; SELECT *, '0/16B3748'::pg_lsn AS lsn FROM t"
        )
        assert.deepStrictEqual(sets, [
          { tag: "SELECT 1", columns: [], rows: [] },
          { tag: "SELECT 1", columns: ["a", "b", "lsn"], rows: [["1", null, "0/16B3748"]] }
        ])
        const broken = yield* errorOf(session.query("SELECT 1; SELECT 1/0; SELECT 2"))
        assert.deepStrictEqual([broken.message, broken.code], ["division by zero", "22012"])
        assert.match((yield* errorOf(session.query("COPY t FROM STDIN"))).message, /COPY from stdin failed/)
        const copied = yield* Effect.flatMap(
          session.copyOut("COPY (SELECT repeat('x', 99) FROM generate_series(1, 100000)) TO STDOUT"),
          collect
        )
        assert.strictEqual(copied.length, 100 * 100_000)

        yield* session.query("SET password_encryption = 'md5'; CREATE ROLE md5 LOGIN PASSWORD 'old'")
        const md5 = { ...admin, user: "md5", password: "old" }
        const other = yield* PgWire.connect({ target: md5 })
        assert.strictEqual((yield* other.query("SELECT current_user"))[0]?.rows[0]?.[0], "md5")
        for (const wrong of [
          { ...md5, password: "new" },
          { ...admin, password: "new" }
        ]) {
          const error = yield* errorOf(Effect.scoped(PgWire.connect({ target: wrong })))
          assert.deepStrictEqual(
            [error.message, error.code],
            [`password authentication failed for user "${wrong.user}"`, "28P01"]
          )
        }
        const terminated = yield* Effect.forkChild(errorOf(other.query("SELECT pg_sleep(100)")))
        yield* Effect.sleep("50 millis")
        yield* session.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'md5'")
        assert.strictEqual((yield* Fiber.join(terminated)).code, "57P01")
      })
    )
  )
})
