import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Lsn from "../../src/domain/Lsn.ts"
import { LocalStorage } from "../../src/local/LocalStorage.ts"
import { newest } from "../../src/local/Store.ts"
import { TestStorage } from "./fixture.ts"
import * as Raw from "./rawClient.ts"

const session = (parameters: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const storage = yield* LocalStorage
    const token = Redacted.value(yield* storage.keys.storageToken(storage.tenantId))
    const [safekeeper] = storage.safekeepers
    if (safekeeper === undefined) return yield* Effect.die("there are safekeepers")
    const client = yield* Raw.open(safekeeper.port)
    yield* client.send(Raw.startup({ client_encoding: "UTF8", user: "no_user", ...parameters }), Raw.password(token))
    yield* client.untilReady
    return { client, safekeeper }
  })

const onTimeline = Effect.gen(function* () {
  const { tenantId, timelineId } = yield* LocalStorage
  return yield* session({ options: `-c timeline_id=${timelineId} tenant_id=${tenantId}` })
})

const ask = (client: Raw.RawClient, text: string) => Effect.andThen(client.send(Raw.query(text)), client.untilReady)

const cells = (answer: ReadonlyArray<Raw.Message>): ReadonlyArray<string> => {
  const row = answer.find(({ tag }) => tag === "D")?.body
  const found: Array<string> = []
  for (let at = 2; row !== undefined && at < row.length; ) {
    const length = row.readInt32BE(at)
    found.push(length < 0 ? "NULL" : row.toString("utf8", at + 4, at + 4 + length))
    at += 4 + Math.max(length, 0)
  }
  return found
}

const errorText = (answer: ReadonlyArray<Raw.Message>) =>
  answer.flatMap((message) => (message.tag === "E" ? Raw.errorFields(message).slice(-1) : []))

layer(TestStorage, { excludeTestServices: true, timeout: "60 seconds" })("Safekeeper", (it) => {
  it.effect("the status of a timeline is its position twice, in the bytes of the original", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const { client } = yield* onTimeline
      const lsn = Buffer.from(Lsn.format(newest(yield* storage.store.timeline(storage)).lsn))
      yield* client.send(Raw.query("TIMELINE_STATUS"))
      const cell = Buffer.concat([Raw.hex("000000"), Buffer.of(lsn.length), lsn])
      const row = Buffer.concat([Raw.hex("0002"), cell, cell])
      const column = "00000000 0000 00000019 ffff ffffffff 0000"
      const expected = Buffer.concat([
        Raw.hex("54 0000003f 0002"),
        Raw.cstr("flush_lsn"),
        Raw.hex(column),
        Raw.cstr("commit_lsn"),
        Raw.hex(column),
        Raw.hex("44 000000"),
        Buffer.of(row.length + 4),
        row,
        Raw.hex("43 00000014"),
        Raw.cstr("TIMELINE_STATUS"),
        Raw.hex("5a 00000005 49")
      ])
      assert.deepStrictEqual(yield* client.read(expected.length), expected)
    }).pipe(Effect.scoped)
  )

  it.effect("each instance can be told to know other positions, or none", () =>
    Effect.gen(function* () {
      const { client, safekeeper } = yield* onTimeline
      const [flush, commit] = [Lsn.fromBigInt(0x1696108n), Lsn.fromBigInt(0x1696000n)]
      safekeeper.setStatus({ _tag: "Fixed", flush, commit })
      assert.deepStrictEqual(cells(yield* ask(client, "TIMELINE_STATUS")), ["0/1696108", "0/1696000"])
      safekeeper.setStatus({ _tag: "Unknown" })
      const unknown = yield* ask(client, "TIMELINE_STATUS")
      assert.strictEqual(unknown.map(({ tag }) => tag).join(""), "TCZ")
      safekeeper.setStatus({ _tag: "FromStore" })
      assert.notDeepEqual(cells(yield* ask(client, "TIMELINE_STATUS")), [])
    }).pipe(Effect.scoped)
  )

  it.effect("a timeline that does not exist has no row", () =>
    Effect.gen(function* () {
      const { tenantId } = yield* LocalStorage
      const { client } = yield* session({ options: `tenant_id=${tenantId} timeline_id=${"ab".repeat(16)}` })
      assert.deepStrictEqual(cells(yield* ask(client, "TIMELINE_STATUS")), [])
    }).pipe(Effect.scoped)
  )

  it.effect("ids come from the start-up options and are asked for at the first command", () =>
    Effect.gen(function* () {
      const { tenantId, timelineId } = yield* LocalStorage
      const status = (options: string) =>
        Effect.flatMap(session({ options }), ({ client }) => ask(client, "TIMELINE_STATUS"))
      assert.deepStrictEqual(errorText(yield* status("-c x=y")), ["Mtenantid is required"])
      assert.deepStrictEqual(errorText(yield* status(`ztenantid=${tenantId}`)), ["Mtimelineid is required"])
      assert.deepStrictEqual(errorText(yield* status("tenant_id=x timeline_id=y")), [
        "MFailed to parse tenant id from x"
      ])
      assert.strictEqual(cells(yield* status(`ztenantid=${tenantId} ztimelineid=${timelineId}`)).length, 2)
      const foreign = yield* status(`tenant_id=${"cd".repeat(16)} timeline_id=${timelineId}`)
      assert.deepStrictEqual(errorText(foreign), ["MJWT authentication error"])
    }).pipe(Effect.scoped)
  )

  it.effect("IDENTIFY_SYSTEM shows flushed WAL to recovery and committed WAL to others", () =>
    Effect.gen(function* () {
      const storage = yield* LocalStorage
      const { client, safekeeper } = yield* onTimeline
      const { systemIdentifier } = yield* storage.store.timeline(storage)
      safekeeper.setStatus({ _tag: "Fixed", flush: Lsn.fromBigInt(2n), commit: Lsn.fromBigInt(1n) })
      const system = String(systemIdentifier)
      assert.deepStrictEqual(cells(yield* ask(client, "IDENTIFY_SYSTEM")), [system, "1", "0/1", "NULL"])
      const recovery = yield* session({
        options: `timeline_id=${storage.timelineId} tenant_id=${storage.tenantId}`,
        application_name: "wal_proposer_recovery"
      })
      assert.deepStrictEqual(cells(yield* ask(recovery.client, "IDENTIFY_SYSTEM")), [system, "1", "0/2", "NULL"])
      safekeeper.setStatus({ _tag: "FromStore" })
    }).pipe(Effect.scoped)
  )

  it.effect("other commands are refused", () =>
    Effect.gen(function* () {
      const { client } = yield* onTimeline
      assert.deepStrictEqual(errorText(yield* ask(client, "timeline_status")), ["Munsupported command timeline_status"])
      assert.deepStrictEqual(errorText(yield* ask(client, "set datestyle to iso")), [])
    }).pipe(Effect.scoped)
  )
})
