import * as fs from "node:fs/promises"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { createLocalJWKSet, jwtVerify } from "jose"
import { decodeComputeConfig } from "../../src/domain/ComputeConfig.ts"
import * as ParsedSpec from "../../src/domain/ParsedSpec.ts"
import * as Local from "../../src/local/LocalStorage.ts"
import { optionsFor, temporaryDir } from "./fixture.ts"

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
