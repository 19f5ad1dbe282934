import { createHash } from "node:crypto"
import * as fs from "node:fs/promises"
import { gunzipSync } from "node:zlib"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Lsn from "../../src/domain/Lsn.ts"
import { message } from "../../src/local/backendMessages.ts"
import { LocalStorage } from "../../src/local/LocalStorage.ts"
import * as Pageserver from "../../src/local/Pageserver.ts"
import { tokens } from "../../src/local/StorageAuth.ts"
import { newest } from "../../src/local/Store.ts"
import { defaultStripeSize, shardOfBlock } from "../../src/local/shards.ts"
import { TestStorage } from "./fixture.ts"
import * as Raw from "./rawClient.ts"

/** A session with the token of the tenant, or with another one. */
const session = (port: number, token?: string) =>
  Effect.gen(function* () {
    const storage = yield* LocalStorage
    const good = Redacted.value(yield* storage.keys.storageToken(storage.tenantId))
    const client = yield* Raw.open(port)
    yield* client.send(Raw.startup({ user: "no_user" }), Raw.password(token ?? good))
    yield* client.untilReady
    return client
  })

const ask = (client: Raw.RawClient, text: string) => Effect.andThen(client.send(Raw.query(text)), client.untilReady)

const text = (answer: ReadonlyArray<Raw.Message>): string =>
  answer
    .filter(({ tag }) => tag === "E")
    .map((message) => Raw.errorFields(message).at(-1)?.slice(1))
    .join()

const copied = (answer: ReadonlyArray<Raw.Message>): Buffer =>
  Buffer.concat(answer.filter(({ tag }) => tag === "d").map(({ body }) => body))

const tags = (answer: ReadonlyArray<Raw.Message>): string =>
  answer
    .map(({ tag }) => tag)
    .join("")
    .replace(/d+/u, "d")

const otherThan = (text: string) => text.replace(/^./u, (digit) => (digit === "0" ? "1" : "0"))

/** What `/metrics` shows, without comments. */
const samples = (url: string) =>
  Effect.promise(async () => {
    const response = await fetch(url)
    assert.strictEqual(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8")
    return (await response.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"))
  })

/** A pageserver of its own on the shared storage, to which nothing is attached. */
const fresh = Effect.gen(function* () {
  const { keys, store } = yield* LocalStorage
  return yield* Pageserver.make({
    id: 7,
    store,
    authentication: tokens(keys.storagePublicKey),
    waitLimit: "30 seconds"
  })
})

/** GetPage of version 3 for a block of relation 16384. */
const getPage = (block: number, id = 1): Buffer => {
  const payload = Buffer.alloc(42)
  payload[0] = 2
  payload.writeBigUInt64BE(BigInt(id), 1)
  payload.fill(0xff, 9, 17)
  payload.writeUInt32BE(16384, 33)
  payload.writeUInt32BE(block, 38)
  return payload
}

/** DbSize of version 2. */
const dbSize = Buffer.concat([Buffer.from([3]), Buffer.alloc(20)])

/** Opens a page stream. */
const stream = (client: Raw.RawClient, command: string) =>
  Effect.gen(function* () {
    yield* client.send(Raw.query(command))
    assert.deepStrictEqual(yield* client.message, { tag: "W", body: Raw.hex("000000") })
    return (request: Buffer) => client.send(message("d", request))
  })

const other = "0123456789abcdef0123456789abcdef"

/** Names, types and contents of an archive, read by hand. */
const entries = (tar: Buffer) => {
  const found: Array<{ name: string; header: Buffer; content: Buffer }> = []
  let at = 0
  while (tar[at] !== 0) {
    const header = tar.subarray(at, at + 512)
    const size = Number.parseInt(header.toString("latin1", 124, 135), 8)
    const name = header.toString("latin1", 0, 100).replace(/\0.*$/u, "")
    found.push({ name, header, content: tar.subarray(at + 512, at + 512 + size) })
    at += 512 + Math.ceil(size / 512) * 512
  }
  assert.strictEqual(tar.length - at, 1024)
  assert.isTrue(tar.subarray(at).every((byte) => byte === 0))
  return found
}

layer(TestStorage, { excludeTestServices: true, timeout: "60 seconds" })("Pageserver", (it) => {
  it.effect("a base backup is the image of the timeline, in the order and with the headers of the original", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const client = yield* session(storage.pageserver.port)
      const { lsn } = newest(yield* storage.store.timeline(storage))
      const answer = yield* ask(
        client,
        `basebackup ${storage.tenantId} ${storage.timelineId} ${Lsn.format(lsn)} --gzip`
      )
      assert.strictEqual(tags(answer), "HdcCZ")
      assert.deepStrictEqual(answer[0]?.body, Raw.hex("000000"))
      const found = entries(gunzipSync(copied(answer)))
      const names = found.map(({ name }) => name)
      assert.deepStrictEqual(names.slice(0, 26), [
        "global",
        "pg_wal/archive_status",
        "pg_wal/summaries",
        "pg_commit_ts",
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
        "pg_logical/mappings",
        "pg_hba.conf",
        "pg_ident.conf",
        "postgresql.auto.conf"
      ])
      assert.deepStrictEqual(names.slice(-4), [
        "neon.signal",
        "zenith.signal",
        "global/pg_control",
        "pg_wal/000000010000000000000001"
      ])
      for (const absent of ["postgresql.conf", "postmaster.opts", "pg_wal", "backup_label"]) {
        assert.notInclude(names, absent)
      }

      const [directory] = found
      const control = found.at(-2)
      if (directory === undefined || control === undefined) return assert.fail("entries are missing")
      assert.strictEqual(directory.header.toString("latin1", 100, 108), "0000755\0")
      assert.strictEqual(directory.header.toString("latin1", 156, 157), "5")
      assert.strictEqual(control.header.toString("latin1", 100, 108), "0000600\0")
      assert.isTrue(control.header.subarray(108, 124).every((byte) => byte === 0))
      assert.strictEqual(control.header.toString("latin1", 124, 136), "00000020000\0")
      assert.strictEqual(control.header.toString("latin1", 156, 157), "\0")
      assert.strictEqual(control.header.toString("latin1", 257, 265), "ustar  \0")
      assert.isTrue(control.header.subarray(265).every((byte) => byte === 0))
      const checkpoint = Lsn.format(control.content.readBigUInt64LE(32))
      assert.strictEqual(control.content.readUInt32LE(16), 1)
      assert.strictEqual(found.at(-4)?.content.toString(), `PREV LSN: ${checkpoint}`)
      assert.strictEqual(found.at(-3)?.content.toString(), `PREV LSN: ${checkpoint}`)
      assert.strictEqual(found.at(-1)?.content.length, 16777216)
    }).pipe(Effect.scoped)
  )

  it.effect("without --gzip the same archive comes uncompressed, and without an LSN the latest", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const client = yield* session(storage.pageserver.port)
      const ids = `${storage.tenantId} ${storage.timelineId}`
      const packed = copied(yield* ask(client, `basebackup ${ids} latest --replica --gzip`))
      const plain = copied(yield* ask(client, `  BaseBackup ${ids.toUpperCase()} `))
      const hash = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex")
      assert.strictEqual(hash(plain), hash(gunzipSync(packed)))
    }).pipe(Effect.scoped)
  )

  it.effect("commands that are none are refused in the words of the original", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const client = yield* session(storage.pageserver.port)
      const ids = `${storage.tenantId} ${storage.timelineId}`
      const cases = [
        ["basebackup", "cannot parse query: basebackup"],
        ["basebackup x", "invalid number of parameters for basebackup command: 1"],
        [`basebackup x ${storage.timelineId}`, "Failed to parse tenant id from x"],
        [`basebackup ${storage.tenantId} y`, "Failed to parse timeline id from y"],
        [`basebackup ${ids} 0-1`, "Failed to parse lsn from 0-1"],
        [`basebackup ${ids} --gzip --gzip`, "duplicate parameter for basebackup command: --gzip"],
        [`basebackup ${ids} --gzip 0/1`, "invalid parameter for basebackup command: 0/1"],
        [`basebackup ${ids} latest --full`, "invalid parameter for basebackup command: --full"],
        [`pagestream ${ids}`, `unsupported command pagestream in pagestream ${ids}`],
        [`pagestream_v3 ${ids} 0/1`, "invalid number of parameters for pagestream command: 3"],
        [`pagestream_v2 ${storage.tenantId} y`, "Failed to parse timeline id from y"],
        ["lease it", "invalid lease command: lease"],
        [`lease lsn ${ids}`, "invalid number of parameters for lease lsn command: 2"],
        [`lease lsn ${ids} 1`, "Failed to parse lsn from 1"]
      ] as const
      for (const [command, expected] of cases) assert.strictEqual(text(yield* ask(client, command)), expected)
      assert.strictEqual(tags(yield* ask(client, "set statement_timeout = 0")), "CZ")
    }).pipe(Effect.scoped)
  )

  it.effect("a tenant or timeline that is not here is not found, and is counted", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const { pageserver } = storage
      const client = yield* session(pageserver.port)
      const before = pageserver.unservable()
      assert.strictEqual(text(yield* ask(client, `basebackup ${storage.tenantId} ${other}`)), "not found")
      assert.strictEqual(
        text(yield* ask(client, `lease lsn ${storage.tenantId} ${other} 0/1`)),
        `Not found: Timeline ${storage.tenantId}/${other} was not found`
      )
      pageserver.detach(storage)
      assert.strictEqual(
        text(yield* ask(client, `lease lsn ${storage.tenantId} ${storage.timelineId} 0/1`)),
        `Not found: Tenant ${storage.tenantId} not found`
      )
      assert.strictEqual(text(yield* ask(client, `basebackup ${storage.tenantId} ${storage.timelineId}`)), "not found")
      pageserver.attach(storage)
      assert.strictEqual(pageserver.unservable() - before, 4)
      assert.strictEqual(tags(yield* ask(client, `basebackup ${storage.tenantId} ${storage.timelineId}`)), "HdcCZ")
      assert.strictEqual(pageserver.unservable() - before, 4)
    }).pipe(Effect.scoped)
  )

  it.effect("a token of another tenant is no permission", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const client = yield* session(storage.pageserver.port)
      const command = `basebackup ${other} ${storage.timelineId} --gzip`
      assert.strictEqual(text(yield* ask(client, command)), "JWT authentication error")
    }).pipe(Effect.scoped)
  )

  it.effect("an LSN that is not reached in time, or that is too old, is refused", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const client = yield* session(storage.pageserver.port)
      const last = Lsn.format(newest(yield* storage.store.timeline(storage)).lsn)
      const command = (lsn: string) => `basebackup ${storage.tenantId} ${storage.timelineId} ${lsn} --gzip`
      assert.strictEqual(
        text(yield* ask(client, command("1/0"))),
        `Timed out while waiting for WAL record at LSN 1/0 to arrive, last_record_lsn ${last} disk consistent LSN=${last}, WalReceiver status: Not active`
      )
      assert.strictEqual(
        text(yield* ask(client, command("0/1000"))),
        `invalid basebackup lsn: LSN 0/1000 is earlier than latest GC cutoff ${last} (we might've already garbage collected needed data)`
      )
    }).pipe(Effect.scoped)
  )

  it.effect("a lease is granted, extended, never shortened, and refused behind the oldest image", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const { pageserver } = storage
      const client = yield* session(pageserver.port)
      const { lsn } = newest(yield* storage.store.timeline(storage))
      const lease = (at: string) => ask(client, `lease lsn ${storage.tenantId} ${storage.timelineId} ${at} `)
      const until = (answer: ReadonlyArray<Raw.Message>) => Number(answer[1]?.body.toString("latin1", 6))
      const now = Date.now()

      const granted = yield* lease(Lsn.format(lsn))
      assert.strictEqual(tags(granted), "TDCZ")
      assert.deepStrictEqual(
        granted[0]?.body,
        Buffer.concat([Raw.hex("0001"), Raw.cstr("valid_until"), Raw.hex("00000000 0000 00000019 ffff ffffffff 0000")])
      )
      assert.approximately(until(granted), now + 600_000, 5000)
      pageserver.setLease({ _tag: "Granted", millis: 1000 })
      assert.isAtLeast(until(yield* lease(Lsn.format(lsn))), until(granted))

      const refused = yield* lease("0/1000")
      assert.deepStrictEqual(refused[1]?.body, Raw.hex("0001 ffffffff"))
      pageserver.setLease({ _tag: "Refused" })
      assert.deepStrictEqual((yield* lease(Lsn.format(lsn)))[1]?.body, Raw.hex("0001 ffffffff"))
    }).pipe(Effect.scoped)
  )

  it.effect("an archive that cannot be read is an error of the protocol", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const client = yield* session(storage.pageserver.port)
      const archive = storage.store.archive(storage, newest(yield* storage.store.timeline(storage)), true)
      yield* Effect.promise(() => fs.rename(archive, `${archive}.away`))
      const answer = yield* ask(client, `basebackup ${storage.tenantId} ${storage.timelineId} --gzip`)
      yield* Effect.promise(() => fs.rename(`${archive}.away`, archive))
      assert.match(text(answer), /^reading the payload failed: .*ENOENT/u)
    }).pipe(Effect.scoped)
  )

  it.effect("what cannot be served is counted by command and reason, each pageserver for itself", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const { tenantId, timelineId } = storage
      const pageserver = yield* fresh
      const elsewhere = yield* samples(storage.pageserver.metricsUrl)
      assert.deepStrictEqual(yield* samples(pageserver.metricsUrl), [
        "pageserver_misrouted_pagestream_requests_total 0"
      ])
      const client = yield* session(pageserver.port)
      yield* ask(client, `basebackup ${tenantId} ${timelineId} --gzip`)
      yield* ask(client, `basebackup ${tenantId} ${timelineId} --gzip`)
      pageserver.attach({ tenantId, shard: { number: 1, count: 2 } })
      assert.strictEqual(text(yield* ask(client, `basebackup ${tenantId} ${timelineId}`)), "not found")
      assert.strictEqual(
        text(yield* ask(client, `lease lsn ${tenantId}-0002 ${timelineId} 0/1`)),
        `Not found: Tenant ${tenantId} not found`
      )
      yield* ask(client, `lease lsn ${tenantId}-0102 ${otherThan(timelineId)} 0/1`)
      assert.sameMembers(yield* samples(pageserver.metricsUrl), [
        "pageserver_misrouted_pagestream_requests_total 5",
        'pageserver_unservable_requests_total{command="basebackup",reason="tenant_not_found"} 2',
        'pageserver_unservable_requests_total{command="basebackup",reason="wrong_shard"} 1',
        'pageserver_unservable_requests_total{command="lease",reason="wrong_shard"} 1',
        'pageserver_unservable_requests_total{command="lease",reason="timeline_not_found"} 1'
      ])
      assert.strictEqual(pageserver.unservable(), 5)
      assert.deepStrictEqual(yield* samples(storage.pageserver.metricsUrl), elsewhere)
    }).pipe(Effect.scoped)
  )

  it.effect("a shard that is here is served: its lease, and the base backup of the first one", () =>
    Effect.gen(function* () {
      const { store, tenantId, timelineId } = yield* LocalStorage
      const pageserver = yield* fresh
      pageserver.attach({ tenantId, shard: { number: 0, count: 4 } })
      const client = yield* session(pageserver.port)
      const lsn = Lsn.format(newest(yield* store.timeline({ tenantId, timelineId })).lsn)
      assert.strictEqual(tags(yield* ask(client, `lease lsn ${tenantId}-0004 ${timelineId} ${lsn} `)), "TDCZ")
      assert.strictEqual(tags(yield* ask(client, `basebackup ${tenantId} ${timelineId} ${lsn} --gzip`)), "HdcCZ")
      assert.strictEqual(tags(yield* ask(client, `lease lsn ${tenantId} ${timelineId} ${lsn} `)), "EZ")
      assert.strictEqual(pageserver.unservable(), 1)
    }).pipe(Effect.scoped)
  )

  it.effect("a page that is asked of the wrong shard breaks the stream with `reconnect`, and is counted", () =>
    Effect.gen(function* () {
      const { tenantId, timelineId } = yield* LocalStorage
      const pageserver = yield* fresh
      pageserver.attach({ tenantId, shard: { number: 0, count: 2 } })
      const blocks = Array.from({ length: 64 }, (_, stripe) => stripe * defaultStripeSize)
      const on = (shard: number) => {
        const found = blocks.find(
          (block) => shardOfBlock({ count: 2, stripeSize: defaultStripeSize, relation: 16384, block }) === shard
        )
        return found ?? assert.fail(`no block is on shard ${shard}`)
      }
      const client = yield* session(pageserver.port)
      const send = yield* stream(client, `pagestream_v3 ${tenantId} ${timelineId}`)
      yield* send(getPage(on(0), 5))
      const { body, tag } = yield* client.message
      assert.strictEqual(tag, "d")
      assert.strictEqual(body[0], 103)
      assert.strictEqual(body.readBigUInt64BE(1), 5n)
      assert.match(body.toString("utf8", 25), /^Read error: /u)
      assert.strictEqual(pageserver.unservable(), 0)
      yield* send(getPage(on(1)))
      assert.deepStrictEqual(Raw.errorFields(yield* client.message), ["SERROR", "C08006", "Mreconnect"])
      assert.lengthOf(yield* client.rest, 0)
      assert.include(
        yield* samples(pageserver.metricsUrl),
        'pageserver_unservable_requests_total{command="pagestream",reason="wrong_shard"} 1'
      )
    }).pipe(Effect.scoped)
  )

  it.effect("a page stream for a tenant that is not here: pages break it, other requests are not found", () =>
    Effect.gen(function* () {
      const { tenantId, timelineId } = yield* LocalStorage
      const pageserver = yield* fresh
      const client = yield* session(pageserver.port)
      yield* (yield* stream(client, `pagestream_v2 ${tenantId} ${timelineId}`))(dbSize)
      const answer = yield* client.untilReady
      assert.deepStrictEqual([text(answer), tags(answer)], ["not found", "EZ"])
      yield* (yield* stream(client, `pagestream_v3 ${tenantId} ${timelineId}`))(getPage(0))
      assert.deepStrictEqual(Raw.errorFields(yield* client.message), ["SERROR", "C08006", "Mreconnect"])
      assert.lengthOf(yield* client.rest, 0)
      assert.strictEqual(pageserver.unservable(), 2)
    }).pipe(Effect.scoped)
  )

  it.effect("a request that is none ends the page stream with an error, and is not counted", () =>
    Effect.gen(function* () {
      const { tenantId, timelineId } = yield* LocalStorage
      const pageserver = yield* fresh
      pageserver.attach({ tenantId })
      const client = yield* session(pageserver.port)
      for (const request of [Buffer.alloc(0), Buffer.from([9]), getPage(0).subarray(0, 41), dbSize.subarray(0, 10)]) {
        yield* (yield* stream(client, `pagestream_v3 ${tenantId} ${timelineId}`))(request)
        assert.match(text(yield* client.untilReady), /^unknown smgr message tag: /u)
      }
      yield* stream(client, `pagestream_v3 ${tenantId} ${timelineId}`)
      yield* client.send(message("c"))
      assert.strictEqual(text(yield* client.untilReady), "unexpected message: c during COPY")
      assert.strictEqual(pageserver.unservable(), 0)
    }).pipe(Effect.scoped)
  )

  it.effect("what waits when its tenant is detached ends with `shutdown`", () =>
    Effect.gen(function* () {
      const { tenantId, timelineId } = yield* LocalStorage
      const pageserver = yield* fresh
      pageserver.attach({ tenantId })
      const client = yield* session(pageserver.port)
      const waiting = `basebackup ${tenantId} ${timelineId} 1/0 --gzip`
      yield* client.send(Raw.query(waiting))
      yield* pageserver.commands.until((command) => command.text === waiting)
      yield* ask(yield* session(pageserver.port), "set its_turn = 1") // by then the other one waits
      pageserver.detach({ tenantId })
      assert.deepStrictEqual(Raw.errorFields(yield* client.message), ["SERROR", "C57P01", "Mshutdown"])
      assert.lengthOf(yield* client.rest, 0)
      assert.strictEqual(pageserver.unservable(), 0)
    }).pipe(Effect.scoped)
  )

  it.effect("a pageserver that is stopped answers on neither port, and afterwards on the same two", () =>
    Effect.gen(function* () {
      const pageserver = yield* fresh
      yield* pageserver.stop
      const refused = yield* Effect.flip(Raw.open(pageserver.port))
      assert.match(refused.message, /ECONNREFUSED/u)
      const gone = yield* Effect.promise(() => fetch(pageserver.metricsUrl).then(() => "answers", String))
      assert.strictEqual(gone, "TypeError: fetch failed")
      yield* pageserver.start
      yield* session(pageserver.port)
      assert.lengthOf(yield* samples(pageserver.metricsUrl), 1)
      const status = (path: string, method: string) =>
        Effect.promise(async () => (await fetch(new URL(path, pageserver.metricsUrl), { method })).status)
      assert.strictEqual(yield* status("/", "GET"), 404)
      assert.strictEqual(yield* status("/metrics", "POST"), 405)
    }).pipe(Effect.scoped)
  )
})
