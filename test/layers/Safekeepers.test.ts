import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { TenantId, TimelineId } from "../../src/domain/Identifiers.ts"
import * as Lsn from "../../src/domain/Lsn.ts"
import { Safekeepers } from "../../src/layers/Safekeepers.ts"
import * as PgServer from "../support/pgServer.ts"

const tenantId = Schema.decodeSync(TenantId)("9e4c8f36063c6c6e93bc20d65a820f3d")
const timelineId = Schema.decodeSync(TimelineId)("814ce0bd2ae452e11575402e8296b64d")

const rows = (...lsns: ReadonlyArray<readonly [flush: string, commit: string]>): Buffer =>
  Buffer.concat([
    PgServer.rowDescription("flush_lsn", "commit_lsn"),
    ...lsns.map(([flush, commit]) => PgServer.dataRow(flush, commit)),
    PgServer.commandComplete("TIMELINE_STATUS"),
    PgServer.ready
  ])
const at = (lsn: string): Buffer => rows([lsn, lsn])
const unknown = rows()

/** A safekeeper that gives this answer after `millis`; without an answer it hangs. */
const safekeeper = (answer: Buffer | undefined, millis = 0) =>
  PgServer.listen(async (peer) => {
    await peer.send(PgServer.trusted)
    const query = await peer.next()
    if (query?.text !== "TIMELINE_STATUS" || answer === undefined) return
    await new Promise((resolve) => setTimeout(resolve, millis))
    await peer.send(answer)
  })

const status = (
  safekeepers: ReadonlyArray<string>,
  token?: string,
  loggers: ReadonlyArray<Logger.Logger<unknown, void>> = []
) =>
  Effect.flatMap(Safekeepers, (service) =>
    service.status({
      tenantId,
      timelineId,
      safekeepers,
      token: token === undefined ? undefined : Redacted.make(token)
    })
  ).pipe(Effect.provide(Safekeepers.layer), Effect.provide(Logger.layer(loggers)))

const entry = (server: PgServer.PgServer): string => `127.0.0.1:${server.port}`

/** The verdict on safekeepers with these answers; none of them keeps a connection. */
const verdict = (...answers: ReadonlyArray<readonly [Buffer | undefined, number?]>) =>
  Effect.gen(function* () {
    const servers = yield* Effect.forEach(answers, ([answer, millis]) => safekeeper(answer, millis))
    const begun = performance.now()
    const result = yield* status(servers.map(entry))
    const millis = performance.now() - begun
    for (const server of servers) yield* server.allClosed
    return { ...result, millis }
  })

describe("Safekeepers.status", () => {
  it.live("S-031 safekeepers that agree spare the sync process", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { _tag, lsn } = {
          lsn: undefined,
          ...(yield* verdict([at("0/2000000")], [at("0/2000000")], [at("0/2000000")]))
        }
        assert.deepStrictEqual([_tag, lsn], ["Synced", Lsn.parse("0/2000000")])
      })
    )
  )

  it.live("S-031 two equal answers decide without waiting for a third that hangs or differs", () =>
    Effect.scoped(
      Effect.gen(function* () {
        for (const third of [[undefined], [at("0/3000000"), 80]] as const) {
          const result = yield* verdict([at("0/2000000")], third, [at("0/2000000")])
          assert.strictEqual(result._tag, "Synced")
          assert.isBelow(result.millis, 95)
        }
      })
    )
  )

  it.live("S-032 different positions ask for a sync", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const flush = yield* verdict([rows(["0/2000100", "0/2000000"])], [at("0/2000000")])
        assert.strictEqual(flush._tag, "NotSynced")
        const behind = yield* verdict([rows(["0/2000100", "0/2000000"])])
        assert.strictEqual(behind._tag, "NotSynced")
      })
    )
  )

  it.live("S-033 a safekeeper that does not know the timeline forces a sync when it is among the first", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const result = yield* verdict([unknown], [at("0/2000000")], [at("0/2000000"), 60])
        assert.isTrue(result._tag === "NotSynced" && /Only 1 out of 2 know/.test(result.reason))
      })
    )
  )

  it.live("one safekeeper, or two that both answer, are a quorum; none is not", () =>
    Effect.scoped(
      Effect.gen(function* () {
        assert.strictEqual((yield* verdict([at("0/10")]))._tag, "Synced")
        assert.strictEqual((yield* verdict([at("0/10")], [at("0/10")]))._tag, "Synced")
        assert.strictEqual((yield* verdict([at("0/10")], [undefined]))._tag, "NoQuorum")
        assert.strictEqual((yield* status([]))._tag, "NoQuorum")
      })
    )
  )

  it.live("each has 100 ms; a majority that hangs is no quorum", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const result = yield* verdict([undefined], [at("0/10")], [at("0/10"), 2000])
        assert.isTrue(result._tag === "NoQuorum" && /no answer within 100ms/.test(result.reason))
        assert.isAbove(result.millis, 95)
        assert.isBelow(result.millis, 400)
      })
    )
  )

  it.live("what is refused, malformed or makes no sense counts as a failure that is named, never a crash", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const cases = [
          [PgServer.errorResponse("timelineid is required"), /timelineid is required/],
          [rows(["zero", "0/1"]), /is not understood/],
          [Buffer.concat([PgServer.commandComplete("TIMELINE_STATUS"), PgServer.ready]), /is not understood/],
          [Buffer.from("garbage, and quite a lot of it"), /does not speak/]
        ] as const
        for (const [answer, expected] of cases) {
          const server = yield* safekeeper(Buffer.concat([answer, PgServer.ready]))
          const result = yield* status([entry(server)])
          assert.isTrue(result._tag === "NoQuorum" && expected.test(result.reason), String(expected))
          yield* server.allClosed
        }
        for (const malformed of [
          "",
          "host",
          "host:",
          "host:0",
          "host:65536",
          ":5454",
          "g#1:host:5454",
          "u@h:1",
          "::1:5454"
        ]) {
          const result = yield* status([malformed])
          assert.isTrue(
            result._tag === "NoQuorum" && result.reason.includes(`safekeeper ${malformed}: expected host:port`),
            malformed
          )
        }
        const good = yield* safekeeper(at("0/10"))
        assert.strictEqual((yield* status([entry(good), "malformed", entry(good)]))._tag, "Synced")
      })
    )
  )

  it.live("S-037 sends the ids in one option, the user no_user, and the token as password", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const seen: Array<unknown> = []
        const server = yield* PgServer.listen(async (peer) => {
          await peer.send(PgServer.cleartextPassword)
          seen.push(peer.startup, (await peer.next())?.text)
          await peer.send(PgServer.tokenAccepted)
          seen.push((await peer.next())?.text)
          await peer.send(at("0/10"))
        })
        assert.strictEqual((yield* status([entry(server)], "tok"))._tag, "Synced")
        assert.deepStrictEqual(seen, [
          [
            ["client_encoding", "UTF8"],
            ["user", "no_user"],
            ["options", `-c timeline_id=${timelineId} tenant_id=${tenantId}`]
          ],
          "tok",
          "TIMELINE_STATUS"
        ])
      })
    )
  )

  it.live("logs connecting, querying and done for each safekeeper", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const lines: Array<unknown> = []
        const server = yield* safekeeper(at("0/10"))
        const logger = Logger.make(({ message }) => {
          lines.push(...[message].flat())
        })
        yield* status([entry(server)], undefined, [logger])
        assert.deepStrictEqual(
          lines,
          ["connecting to", "querying", "done with"].map((text) => `${text} ${entry(server)}`)
        )
      })
    )
  )
})
