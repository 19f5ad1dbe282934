/** `--enable-failpoints`: places that fail, wait or exit because somebody said so. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { makeBed, type StartOptions } from "../support/bed.ts"
import { configure, refresh } from "../support/reconfigure.ts"
import { syncsAtEnd } from "../support/storage.ts"

const enabled = (variable = ""): StartOptions => ({
  args: { "--enable-failpoints": "" },
  env: { FAILPOINTS: variable }
})

describe("without the option", () => {
  it.live("there is no such route, and the variable says nothing", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run({ env: { FAILPOINTS: "start_postgres=return" } })
      const reply = yield* node.internal("POST /failpoints", { body: [{ name: "start_compute", actions: "off" }] })
      expect([reply.status, reply.json]).toEqual([404, { error: "not found" }])
      yield* node.stop
    })
  )
})

describe("with the option", () => {
  it.live("a stage of the start fails, with the words that were given", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      expect(yield* bed.failure(enabled("create_pgdata=off;start_postgres=return(no luck)"))).toBe(
        "failpoint start_postgres: no luck"
      )
    })
  )

  it.live("a stage waits until it is let go", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start(enabled("get_basebackup=pause"))
      yield* node.waitFor("init")
      yield* node.logged("safekeepers synced at LSN")
      const off = { body: [{ name: "get_basebackup", actions: "off" }] }
      expect((yield* node.internal("POST /failpoints", off)).status).toBe(200)
      yield* node.waitFor("running")
      yield* node.stop
    })
  )

  it.live("the process ends where it stands", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start(enabled("prepare_pgdata=exit"))
      expect((yield* node.exit).code).toBe(1)
      expect(node.stderr()).toContain("failpoint prepare_pgdata triggered, exiting")
    })
  )

  it.live("an apply and a refresh fail once, and heal", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const options: StartOptions = { ...enabled(), source: "controlPlane" }
      const node = yield* bed.run(options)
      const points = [
        { name: "compute-configuration-before-apply", actions: "1*return(no)" },
        { name: "refresh-after-fetch", actions: "1*return(not now)" }
      ]
      expect((yield* node.internal("POST /failpoints", { body: points })).status).toBe(200)
      const answer = yield* configure(bed, node, {})
      expect([answer.status, answer.json]).toEqual([
        500,
        { error: 'compute configuration failed: "failpoint compute-configuration-before-apply: no"' }
      ])
      expect((yield* refresh(node)).status).toBe(200)
      yield* node.waitFor("running")
      yield* node.logged("Refresh configuration: failpoint refresh-after-fetch: not now")
      yield* node.stop
    })
  )

  it.live("the last sync fails: nothing is asked of the safekeepers, and the end is no success", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run(enabled("terminate-before-sync=return(no quorum)"))
      const answer = yield* node.terminate("immediate")
      expect([answer.status, answer.json]).toEqual([
        500,
        { error: expect.stringContaining("failed to sync safekeepers on shutdown: failpoint terminate-before-sync") }
      ])
      expect((yield* node.exit).code).toBe(1)
      expect(syncsAtEnd(bed)).toEqual([])
    })
  )

  it.live("a migration fails by its number, and is counted", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run({
        ...enabled("compute-migration=return(2)"),
        spec: { skip_pg_catalog_updates: false }
      })
      yield* node.logged("migration 2 was configured to fail because of a failpoint")
      yield* node.logged("Failed to run migrations")
      expect(yield* node.value("SELECT id FROM neon_migration.migration_id")).toBe("1")
      expect((yield* node.external("GET /metrics")).text).toContain(
        'compute_ctl_db_migration_failed_total{migration_id="2"} 1'
      )
      yield* node.stop
    })
  )

  it.live("words that cannot be read are a usage error", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start(enabled("start_compute"))
      expect((yield* node.exit).code).toBe(2)
      expect(node.stderr()).toBe(
        'compute_ctl: invalid value of the variable FAILPOINTS: expected name=actions in "start_compute"\n'
      )
    })
  )
})
