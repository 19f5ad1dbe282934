import { generateKeyPairSync, sign } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Backend from "../../src/local/backendMessages.ts"
import * as PgServer from "../../src/local/PgServer.ts"
import { QueryError } from "../../src/local/QueryError.ts"
import { tokens, trust } from "../../src/local/StorageAuth.ts"
import * as Raw from "./rawClient.ts"

const payload = Buffer.from("0123456789")

/** Answers by the words of the command. */
const run = (exchange: PgServer.Exchange) => {
  switch (exchange.text) {
    case "rows":
      return exchange.send(
        Backend.rowDescription([{ name: "a" }, { name: "b", type: "int4" }]),
        Backend.dataRow(["x", null]),
        Backend.commandComplete("SELECT 1")
      )
    case "copy":
      return exchange.copyOut(
        (async function* () {
          yield payload.subarray(0, 4)
          yield payload.subarray(4)
        })(),
        "SELECT 1"
      )
    case "chain":
      return Effect.fail(new QueryError({ kind: "Other", message: "outer", causes: ["middle", "inner"] }))
    case "missing":
      return Effect.fail(new QueryError({ kind: "NotFound", message: "Tenant x not found" }))
    case "moved":
      return Effect.fail(new QueryError({ kind: "Reconnect", message: "Server requested reconnect" }))
    default:
      return Effect.fail(new QueryError({ kind: "Unauthorized", message: "not yours" }))
  }
}

const serve = PgServer.make({ name: "test server", authentication: trust, run })

/** A server and a client that has got through the start-up. */
const connected = Effect.gen(function* () {
  const server = yield* serve
  const client = yield* Raw.open(server.port)
  yield* client.send(Raw.startup({ user: "no_user" }))
  yield* client.untilReady
  return { server, client }
})

const tags = (messages: ReadonlyArray<Raw.Message>): string => messages.map(({ tag }) => tag).join("")
const firstError = (messages: ReadonlyArray<Raw.Message>): ReadonlyArray<string> => {
  const found = messages.find(({ tag }) => tag === "E")
  return found === undefined ? [] : Raw.errorFields(found)
}
const parse = (text: string) => Backend.message("P", Buffer.concat([Raw.cstr("s0", text), Raw.hex("0000")]))
const describeStatement = Backend.message("D", Buffer.concat([Buffer.from("S"), Raw.cstr("s0")]))
const bind = Backend.message("B", Raw.hex("00 73 30 00 00 00 00 00 00 01 00 01"))
const execute = Backend.message("E", Buffer.alloc(5))
const sync = Backend.message("S")

const broken: ReadonlyArray<readonly [string, Buffer, string]> = [
  ["Flush", Backend.message("H"), 'unknown message tag "H"'],
  ["a parameter in Parse", Backend.message("P", Raw.hex("00 78 00 0001 00000019")), "query params not implemented"],
  ["a named portal", Backend.message("B", Raw.hex("70 00 00 0000 0000 0000")), "named portals not implemented"],
  ["a row limit", Backend.message("E", Raw.hex("00 00000001")), "named portals and row limits not implemented"],
  ["Describe of a portal", Backend.message("D", Raw.hex("50 00")), "only prepared statement Describe is implemented"],
  ["copy data outside of a copy", Backend.message("d"), "unexpected message type: d"]
]

const notStartup: ReadonlyArray<readonly [string, string, string]> = [
  ["an absurd length", "00 00 ff ff 00 03 00 00", "invalid startup packet message length 65535"],
  ["a TLS handshake", "16 03 01 00 00 00 00 00", "direct SSL negotiation but no TLS support"],
  ["a cancel request", "00 00 00 10 04 d2 16 2e 00 00 00 00 00 00 00 00", "cancel request"],
  ["an unknown request", "00 00 00 08 04 d2 00 00", "Unrecognized request code"]
]

describe("PgServer", () => {
  it.live("a client without a token is let in with the bytes of the original", () =>
    Effect.gen(function* () {
      const server = yield* serve
      const client = yield* Raw.open(server.port)
      yield* client.send(Raw.hex("00000008 04d2162f"))
      assert.strictEqual((yield* client.read(1)).toString(), "N")
      yield* client.send(Raw.hex("00000008 04d21630"))
      assert.strictEqual((yield* client.read(1)).toString(), "N")
      yield* client.send(Raw.startup({ user: "no_user", options: "-c a=b", application_name: "compute_ctl" }))
      const expected = Buffer.concat([
        Raw.hex("52 00000008 00000000 53 00000019"),
        Raw.cstr("client_encoding", "UTF8"),
        Raw.hex("53 00000019"),
        Raw.cstr("integer_datetimes", "on"),
        Raw.hex("53 00000018"),
        Raw.cstr("server_version", "14.1"),
        Raw.hex("5a 00000005 49")
      ])
      assert.deepStrictEqual(yield* client.read(expected.length), expected)
      yield* client.send(Backend.message("X"))
      const session = yield* server.sessions.until(({ outcome }) => outcome === "closed")
      assert.deepStrictEqual(session.parameters, {
        user: "no_user",
        options: "-c a=b",
        application_name: "compute_ctl"
      })
    }).pipe(Effect.scoped)
  )

  it.live("a token is asked for, and a wrong one is refused before the connection is closed", () =>
    Effect.gen(function* () {
      const { publicKey, privateKey } = generateKeyPairSync("ed25519")
      const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")
      const signed = (claims: unknown): string => {
        const text = `${part({ alg: "EdDSA", typ: "JWT" })}.${part(claims)}`
        return `${text}.${sign(null, Buffer.from(text), privateKey).toString("base64url")}`
      }
      const server = yield* PgServer.make({ name: "test server", authentication: tokens(publicKey), run })
      const attempt = (token: string) =>
        Effect.gen(function* () {
          const client = yield* Raw.open(server.port)
          yield* client.send(Raw.startup({ user: "no_user" }))
          assert.deepStrictEqual(yield* client.read(9), Raw.hex("52 00000008 00000003"))
          yield* client.send(Raw.password(token))
          return client
        })

      const good = yield* attempt(signed({ scope: "tenant", tenant_id: "x" }))
      const welcome = Raw.hex(
        `52 00000008 00000000 53 00000019 ${Raw.cstr("client_encoding", "UTF8").toString("hex")} 5a 00000005 49`
      )
      assert.deepStrictEqual(yield* good.read(welcome.length), welcome)

      const over = signed({ scope: "tenant", exp: 1_000_000 })
      for (const token of ["tok", "", signed({ scope: "everything" }), over, `${signed({ scope: "tenant" })}x`]) {
        const bad = yield* attempt(token)
        assert.deepStrictEqual(Raw.errorFields(yield* bad.message), ["SERROR", "CXX000", "MJWT authentication error"])
        assert.strictEqual((yield* bad.rest).length, 0)
      }
      assert.strictEqual(server.sessions.all().at(1)?.password, "tok")
    }).pipe(Effect.scoped)
  )

  it.live("rows, NULL and column types have the form of the original", () =>
    Effect.gen(function* () {
      const { client } = yield* connected
      yield* client.send(Raw.query("rows"))
      const expected = Raw.hex(`
        54 0000002e 0002 6100 00000000 0000 00000019 ffff ffffffff 0000
                         6200 00000000 0000 00000017 0004 ffffffff 0000
        44 0000000f 0002 00000001 78 ffffffff
        43 0000000d 53454c454354203100
        5a 00000005 49`)
      assert.deepStrictEqual(yield* client.read(expected.length), expected)
    }).pipe(Effect.scoped)
  )

  it.live("the extended protocol claims that nothing is returned, and then returns it", () =>
    Effect.gen(function* () {
      const { client, server } = yield* connected
      yield* client.send(parse("copy"), describeStatement, sync)
      assert.deepStrictEqual(
        yield* client.read(5 + 7 + 5 + 6),
        Raw.hex("31 00000004 74 00000006 0000 6e 00000004 5a 00000005 49")
      )
      yield* client.send(bind, execute, sync)
      const expected = Raw.hex(
        "32 00000004 48 00000007 000000 64 00000008 30313233 64 0000000a 343536373839 63 00000004 43 0000000d 53454c454354203100 5a 00000005 49"
      )
      assert.deepStrictEqual(yield* client.read(expected.length), expected)
      yield* client.send(Backend.message("C", Buffer.concat([Buffer.from("S"), Raw.cstr("s0")])), sync)
      assert.strictEqual(tags(yield* client.untilReady), "3Z")
      const [command] = server.commands.all()
      assert.deepInclude(command, { text: "copy", protocol: "extended", payloadBytes: 10, outcome: "ok" })
    }).pipe(Effect.scoped)
  )

  it.live("an error reads differently for a query and for Execute, and does not skip to Sync", () =>
    Effect.gen(function* () {
      const { client } = yield* connected
      const cases = [
        ["chain", "Mouter: middle: inner", "Mouter"],
        ["missing", "Mnot found", "MNot found: Tenant x not found"],
        ["else", "MJWT authentication error", "MUnauthorized: not yours"]
      ] as const
      for (const [command, simple, extended] of cases) {
        yield* client.send(Raw.query(command))
        assert.deepStrictEqual(firstError(yield* client.untilReady), ["SERROR", "CXX000", simple])
        yield* client.send(parse(command), bind, execute, bind, sync)
        const answer = yield* client.untilReady
        assert.strictEqual(tags(answer), "12E2Z")
        assert.deepStrictEqual(firstError(answer), ["SERROR", "CXX000", extended])
      }
      yield* client.send(parse("moved"), bind, execute, sync)
      assert.deepStrictEqual(firstError(yield* client.untilReady), ["SERROR", "C08006", "MServer requested reconnect"])
      yield* client.send(Raw.query("moved"))
      const last = yield* client.message
      assert.deepStrictEqual(Raw.errorFields(last), ["SERROR", "C08006", "Mreconnect"])
      assert.strictEqual((yield* client.rest).length, 0)
    }).pipe(Effect.scoped)
  )

  it.live.each(broken)("%s ends the connection", ([, message, outcome]) =>
    Effect.gen(function* () {
      const { client, server } = yield* connected
      yield* client.send(message)
      assert.strictEqual((yield* client.rest).length, 0)
      assert.strictEqual(server.sessions.all()[0]?.outcome, outcome)
    }).pipe(Effect.scoped)
  )

  it.live.each(notStartup)("%s in place of the start-up packet ends the connection", ([, bytes, outcome]) =>
    Effect.gen(function* () {
      const server = yield* serve
      const client = yield* Raw.open(server.port)
      yield* client.send(Raw.hex(bytes))
      assert.strictEqual((yield* client.rest).length, 0)
      assert.strictEqual(server.sessions.all()[0]?.outcome, outcome)
    }).pipe(Effect.scoped)
  )

  it.live("faults apply as often as planned, to the commands they are meant for", () =>
    Effect.gen(function* () {
      const { client, server } = yield* connected
      const fault = server.faults.add({
        at: "command",
        do: "error",
        message: "no",
        sqlstate: "57P01",
        match: "co",
        skip: 1
      })
      const ask = (text: string) => Effect.andThen(client.send(Raw.query(text)), client.untilReady)
      assert.deepStrictEqual(firstError(yield* ask("copy")), [])
      assert.deepStrictEqual(firstError(yield* ask("rows")), [])
      assert.deepStrictEqual(firstError(yield* ask("copy")), ["SERROR", "C57P01", "Mno"])
      assert.deepStrictEqual(firstError(yield* ask("copy")), [])
      assert.strictEqual(fault.used(), 1)
    }).pipe(Effect.scoped)
  )

  it.live("a payload can be cut, spoiled, dripped, and followed by an error", () =>
    Effect.gen(function* () {
      const { client, server } = yield* connected
      const copy = Effect.andThen(client.send(Raw.query("copy")), client.untilReady)
      const data = (messages: ReadonlyArray<Raw.Message>) =>
        Buffer.concat(messages.filter(({ tag }) => tag === "d").map(({ body }) => body))

      server.faults.add({ at: "payload", do: "truncate", afterBytes: 6 })
      const cut = yield* copy
      assert.strictEqual(data(cut).toString(), "012345")
      assert.match(tags(cut), /^Hd+cCZ$/u)

      server.faults.add({ at: "payload", do: "garbage", afterBytes: 6 })
      const spoiled = data(yield* copy)
      assert.strictEqual(spoiled.length, 10)
      assert.strictEqual(spoiled.toString("latin1", 0, 6), "012345")
      assert.notStrictEqual(spoiled.toString("latin1"), payload.toString("latin1"))

      server.faults.add({ at: "payload", do: "drip", bytes: 3, millis: 1 })
      const dripped = yield* copy
      assert.strictEqual(tags(dripped), "HdddddcCZ".replace("ddddd", "dddd"))
      assert.deepStrictEqual(data(dripped), payload)

      server.faults.add({ at: "payload", do: "error", message: "lost", afterBytes: 3 })
      assert.strictEqual(tags(yield* copy), "HdEZ")
      server.faults.add({ at: "end", do: "error", message: "lost" })
      assert.strictEqual(tags(yield* copy), "HddEZ")
      server.faults.add({ at: "tail", do: "error", message: "lost" })
      const late = yield* copy
      assert.strictEqual(tags(late), "HddcEZ")
      assert.deepStrictEqual(firstError(late), ["SERROR", "CXX000", "Mlost"])

      server.faults.add({ at: "payload", do: "close", afterBytes: 7 })
      yield* client.send(Raw.query("copy"))
      assert.strictEqual((yield* client.rest).toString("latin1").replace(/[^0-9]/gu, ""), "0123456")
    }).pipe(Effect.scoped)
  )

  it.live("a hanging conversation goes on to its end when the fault is released, and ends when the client leaves", () =>
    Effect.gen(function* () {
      const server = yield* serve
      const first = server.faults.add({ at: "startup", do: "hang" })
      const client = yield* Raw.open(server.port)
      yield* client.send(Raw.startup({ user: "x" }))
      const waiting = yield* Effect.forkChild(client.rest)
      yield* Effect.sleep(50)
      assert.strictEqual(waiting.pollUnsafe(), undefined)
      first.release()
      assert.strictEqual((yield* Fiber.join(waiting)).length, 0)

      server.faults.add({ at: "startup", do: "hang", times: "forever" })
      yield* Effect.scoped(
        Effect.gen(function* () {
          const impatient = yield* Raw.open(server.port)
          yield* impatient.send(Raw.startup({ user: "y" }))
          yield* server.sessions.until(({ number }) => number === 2)
        })
      )
      yield* server.sessions.until(({ number, outcome }) => number === 2 && outcome !== "open")
    }).pipe(Effect.scoped)
  )

  it.live("a stopped server refuses and drops clients, and comes back on the same port", () =>
    Effect.gen(function* () {
      const { client, server } = yield* connected
      yield* server.stop
      assert.strictEqual((yield* client.rest).length, 0)
      assert.match((yield* Effect.flip(Raw.open(server.port))).message, /ECONNREFUSED/u)
      yield* server.start
      const again = yield* Raw.open(server.port)
      yield* again.send(Raw.startup({ user: "x" }))
      assert.strictEqual(tags(yield* again.untilReady), "RSSSZ")
    }).pipe(Effect.scoped)
  )

  it.live("a client that does not read slows the server down instead of filling its memory", () =>
    Effect.gen(function* () {
      let produced = 0
      const server = yield* PgServer.make({
        name: "test server",
        authentication: trust,
        run: (exchange) =>
          exchange.copyOut(
            (async function* () {
              for (; produced < 1000; produced++) yield Buffer.alloc(1024 * 1024)
            })(),
            "SELECT 1"
          )
      })
      const socket = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const { connect } = await import("node:net")
          return connect({
            port: server.port,
            host: "127.0.0.1",
            onread: { buffer: Buffer.alloc(64), callback: () => false }
          })
        }),
        (made) => Effect.sync(() => void made.destroy())
      )
      socket.write(Buffer.concat([Raw.startup({ user: "x" }), Raw.query("all")]))
      yield* server.commands.until(() => true)
      yield* Effect.sleep(200)
      assert.isBelow(produced, 50)
    }).pipe(Effect.scoped)
  )
})
