import * as fs from "node:fs/promises"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { createLocalJWKSet, jwtVerify } from "jose"
import { decodeComputeConfig } from "../../src/domain/ComputeConfig.ts"
import * as ParsedSpec from "../../src/domain/ParsedSpec.ts"
import * as PgWire from "../../src/layers/PgWire.ts"
import * as Local from "../../src/local/LocalStorage.ts"
import { optionsFor, temporaryDir } from "./fixture.ts"

const target = {
  host: "127.0.0.1",
  user: "no_user",
  database: undefined,
  password: undefined,
  options: undefined
}

const opened = Effect.gen(function* () {
  const options = yield* optionsFor(join(yield* temporaryDir, "data"))
  return { options, storage: yield* Local.make(options) }
})

describe("LocalStorage", () => {
  it.live("its document is a valid one that names its own servers", () =>
    Effect.gen(function* () {
      const { storage } = yield* opened
      const document = yield* storage.documentFor({
        port: 5433,
        roles: [{ name: "me" }],
        databases: [{ name: "mine", owner: "me" }],
        settings: [{ name: "work_mem", value: "8MB", vartype: "string" }]
      })
      const config = Result.getOrThrow(decodeComputeConfig(JSON.parse(JSON.stringify(document))))
      if (config.spec === undefined || config.spec === null) return assert.fail("there is no spec")
      const parsed = Result.getOrThrow(ParsedSpec.parse(config.spec))
      assert.deepInclude(parsed, { tenantId: storage.tenantId, timelineId: storage.timelineId })
      assert.deepStrictEqual(
        parsed.safekeepers,
        storage.safekeepers.map(({ address }) => address)
      )
      assert.match(config.spec.cluster.postgresql_conf ?? "", /^port = 5433$/mu)
      assert.deepStrictEqual(config.spec.cluster.databases, [{ name: "mine", owner: "me" }])
    }).pipe(Effect.scoped)
  )

  it.live("tokens verify with the published key, and keys are private and stay the same", () =>
    Effect.gen(function* () {
      const { options, storage } = yield* opened
      const { computeJwk, computeToken, adminToken } = storage.keys
      const { kty = "", ...rest } = computeJwk
      const keys = createLocalJWKSet({ keys: [{ kty, ...JSON.parse(JSON.stringify(rest)) }] })
      const claims = (token: Redacted.Redacted<string>) =>
        Effect.promise(async () => (await jwtVerify(Redacted.value(token), keys)).payload)
      assert.deepStrictEqual<unknown>(yield* claims(yield* computeToken("c1")), {
        compute_id: "c1",
        scope: null,
        aud: null
      })
      assert.deepStrictEqual<unknown>(yield* claims(yield* adminToken), {
        compute_id: null,
        scope: "compute_ctl:admin",
        aud: ["compute"]
      })
      for (const name of ["storage.pem", "compute.pem"]) {
        const { mode } = yield* Effect.promise(() => fs.stat(join(options.dataDir, "keys", name)))
        assert.strictEqual(mode & 0o777, 0o600)
      }
    }).pipe(Effect.scoped)
  )

  it.live("several pageservers and any number of safekeepers share one store, on the ports that were asked for", () =>
    Effect.gen(function* () {
      const options = yield* optionsFor(join(yield* temporaryDir, "data"))
      const ports = yield* Effect.scoped(
        Effect.map(Local.make({ ...options, pageservers: 2, safekeepers: 1 }), (storage) => {
          assert.lengthOf(storage.pageservers, 2)
          assert.lengthOf(storage.safekeepers, 1)
          return {
            pageservers: storage.pageservers.map(({ port }) => port),
            safekeepers: storage.safekeepers.map(({ port }) => port),
            controlPlane: storage.controlPlane.port
          }
        })
      )
      const again = yield* Local.make({ ...options, pageservers: 2, safekeepers: 1, ports })
      assert.strictEqual(again.pageservers[1]?.port, ports.pageservers[1])
      assert.strictEqual(again.controlPlane.port, ports.controlPlane)
      const taken = yield* Effect.flip(
        Effect.scoped(
          Effect.flatMap(temporaryDir, (dir) =>
            Local.make({ ...options, dataDir: dir, ports: { controlPlane: ports.controlPlane } })
          )
        )
      )
      assert.strictEqual(taken._tag, "ListenFailed")
      assert.match(
        taken.message,
        new RegExp(`^the control plane cannot listen on 127.0.0.1:${ports.controlPlane}: `, "u")
      )
    }).pipe(Effect.scoped)
  )

  it.live("one pageserver has the timeline; a move takes it to another one, which the next run remembers", () =>
    Effect.gen(function* () {
      const options = { ...(yield* optionsFor(join(yield* temporaryDir, "data"))), pageservers: 3 }
      const run = <A, E>(work: (storage: Local.LocalStorage["Service"]) => Effect.Effect<A, E>, count = 3) =>
        Effect.scoped(Effect.flatMap(Local.make({ ...options, pageservers: count }), work))
      /** Answers of all pageservers to a request for a lease. */
      const answers = (storage: Local.LocalStorage["Service"]) =>
        Effect.forEach(storage.pageservers, (pageserver) =>
          Effect.scoped(
            Effect.gen(function* () {
              const session = yield* PgWire.connect({
                target: { ...target, port: pageserver.port },
                password: yield* storage.keys.storageToken(storage.tenantId)
              })
              const lease = yield* Effect.result(
                session.query(`lease lsn ${storage.tenantId} ${storage.timelineId} FFFF/0`)
              )
              return Result.isSuccess(lease) ? "granted" : lease.failure.message
            })
          )
        )
      const named = (storage: Local.LocalStorage["Service"]) =>
        storage.connectionInfo().shards["0000"]?.pageservers.map(({ id, libpq_url }) => `${id} ${libpq_url}`)

      yield* run((storage) =>
        Effect.gen(function* () {
          const missing = `Not found: Tenant ${storage.tenantId} not found`
          assert.deepStrictEqual(yield* answers(storage), ["granted", missing, missing])
          const { from, to } = yield* storage.move(3)
          assert.deepStrictEqual([from.id, to.id, storage.attached().id], [1, 3, 3])
          assert.deepStrictEqual(yield* answers(storage), [missing, missing, "granted"])
          assert.deepStrictEqual(named(storage), [`3 ${to.url}`])
          const refused = yield* Effect.flip(storage.move(4))
          assert.strictEqual(refused.message, "there is no pageserver 4: they are 1 to 3")
          assert.strictEqual(storage.attached(), to)
          const { spec } = yield* storage.documentFor({ port: 1 })
          assert.deepStrictEqual<unknown>(spec?.pageserver_connection_info, storage.connectionInfo())
        })
      )
      yield* run((storage) =>
        Effect.gen(function* () {
          assert.strictEqual(storage.attached().id, 3)
          const visited = yield* Effect.forEach([1, 2, 3, 4], () => storage.move(undefined))
          assert.deepStrictEqual(
            visited.map(({ to }) => to.id),
            [1, 2, 3, 1]
          )
          yield* storage.move(3)
          const { from, to } = yield* storage.move(3)
          assert.strictEqual(from, to)
        })
      )
      yield* run((storage) => Effect.sync(() => assert.strictEqual(storage.attached().id, 1)), 2)
      const alone = yield* run(
        (storage) => Effect.all([Effect.flip(storage.move(2)), storage.move(undefined)] as const),
        1
      )
      assert.strictEqual(alone[0].message, "there is no pageserver 2: there is only pageserver 1")
      assert.strictEqual(alone[1].to, alone[1].from)
      yield* run((storage) => Effect.sync(() => assert.strictEqual(storage.attached().id, 3)))

      yield* Effect.promise(() => fs.writeFile(join(options.dataDir, "attached.json"), "{}"))
      const damaged = yield* Effect.flip(run(() => Effect.void))
      assert.match(damaged.message, new RegExp(`^cannot use ${options.dataDir} as data directory: `, "u"))
    })
  )

  it.live("a directory of another version of Postgres is refused", () =>
    Effect.gen(function* () {
      const options = yield* optionsFor(join(yield* temporaryDir, "data"))
      yield* Effect.scoped(Local.make(options))
      const timelines = join(options.dataDir, "timelines")
      yield* Effect.promise(async () => {
        const [tenant = ""] = (await fs.readdir(timelines)).filter((name) => name !== "lock")
        const [timeline = ""] = await fs.readdir(join(timelines, tenant))
        const path = join(timelines, tenant, timeline, "catalogue.json")
        await fs.writeFile(path, (await fs.readFile(path, "utf8")).replace('"pg_major":17', '"pg_major":16'))
      })
      const refused = yield* Effect.flip(Effect.scoped(Local.make(options)))
      assert.strictEqual(
        refused.message,
        `${options.dataDir} holds databases of PostgreSQL 16, and this is PostgreSQL 17`
      )
    }).pipe(Effect.scoped)
  )

  it.live.skipIf(process.getuid?.() !== 0)("a directory that Postgres' user cannot reach is refused", () =>
    Effect.gen(function* () {
      const closed = join(yield* temporaryDir, "closed")
      yield* Effect.promise(() => fs.mkdir(closed, { mode: 0o700 }))
      const options = yield* optionsFor(join(closed, "data"))
      const refused = yield* Effect.flip(Effect.scoped(Local.make(options)))
      assert.strictEqual(
        refused.message,
        `cannot use ${options.dataDir} as data directory: ${options.user?.name} runs Postgres and cannot get past ${closed}`
      )
    }).pipe(Effect.scoped)
  )
})
