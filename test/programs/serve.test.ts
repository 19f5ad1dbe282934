/** The worker of a running node under a clock of the test's own. The configuration is a file, so that nothing else waits. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import { decodeComputeSpec } from "../../src/domain/ComputeConfig.ts"
import * as ComputeState from "../../src/domain/ComputeState.ts"
import { localAdmin } from "../../src/domain/ConnString.ts"
import * as ParsedSpec from "../../src/domain/ParsedSpec.ts"
import { ComputeNode } from "../../src/layers/ComputeNode.ts"
import { ControlPlane } from "../../src/layers/ControlPlane.ts"
import { DataDirectory } from "../../src/layers/DataDirectory.ts"
import * as Logging from "../../src/layers/Logging.ts"
import { Metrics } from "../../src/layers/Metrics.ts"
import { Owner } from "../../src/layers/Owner.ts"
import { Params } from "../../src/layers/Params.ts"
import { Postgres } from "../../src/layers/Postgres.ts"
import { Sql } from "../../src/layers/Sql.ts"
import { serve } from "../../src/programs/reconfigure/serve.ts"
import { nodeParams } from "../support/params.ts"

const document = (change: object = {}) => ({
  spec: {
    format_version: 1,
    suspend_timeout_seconds: -1,
    cluster: { roles: [], databases: [] },
    tenant_id: "9e4c8f36063c6c6e93bc20d65a820f3d",
    timeline_id: "814ce0bd2ae452e11575402e8296b64d",
    pageserver_connstring: "postgresql://127.0.0.1:6400",
    safekeeper_connstrings: ["127.0.0.1:6500"],
    mode: "Primary",
    skip_pg_catalog_updates: true,
    ...change
  },
  compute_ctl_config: { jwks: { keys: [] } }
})

const running = Result.getOrThrow(Result.flatMap(decodeComputeSpec(document().spec), (spec) => ParsedSpec.parse(spec)))

const attemptFailed = "from refresh-configuration to refresh-configuration-pending"

/** A node that runs, with its worker; nothing but that reads its file or its state. */
const worker = Effect.gen(function* () {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "compute-ctl-serve-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
  )
  const path = join(directory, "config.json")
  const publish = (text: unknown) =>
    Effect.sync(() => writeFileSync(path, typeof text === "string" ? text : JSON.stringify(text)))
  yield* publish(document())
  const log: Array<string> = []
  const layers = Layer.mergeAll(
    ComputeNode.layer(ComputeState.initial(0, { keys: [] })),
    ControlPlane.layer,
    DataDirectory.layer,
    Postgres.layer,
    Sql.layer
  ).pipe(
    Layer.provideMerge(Layer.mergeAll(Metrics.layer("test"), Owner.layer(undefined))),
    Layer.provideMerge(
      Layer.succeed(
        Params,
        nodeParams({
          pgdata: join(directory, "pgdata"),
          postgres: localAdmin(1),
          source: { _tag: "ConfigFile", path }
        })
      )
    ),
    Layer.provideMerge(Logging.layer({ rustLog: undefined, write: (line) => void log.push(line) }))
  )
  const services = yield* Layer.build(layers)
  const within = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provideContext(effect, services)
  const node = yield* within(ComputeNode)
  yield* within(
    Effect.andThen(
      node.transition("startup_begins"),
      node.transition("startup_succeeded", (state) => ({ ...state, spec: running }))
    )
  )
  const served = yield* within(serve({ pid: 1, exited: Effect.never }, running)).pipe(
    Effect.forkScoped({ startImmediately: true })
  )
  const times = (text: string): number => log.filter((line) => line.includes(text)).length
  return {
    publish,
    times,
    served,
    refresh: within(node.requestRefresh),
    terminate: within(node.terminate("immediate")),
    status: Effect.map(node.state, ({ error, status }) => ({ error, status }))
  }
})

/** Moves the clock, and lets everything run that is due. */
const pass = (millis: number) => TestClock.adjust(millis)

describe("a refresh that keeps failing", () => {
  it.effect(
    "C3 is tried with growing pauses for ten minutes, then waits for the next notification, which starts over",
    () =>
      Effect.gen(function* () {
        const { publish, refresh, status, times } = yield* worker
        yield* publish("{")
        yield* refresh
        yield* pass(0)
        assert.strictEqual(times(attemptFailed), 1)
        // 1, 2, 4, 8, 16 s and then 30 s each, every one between half and one and a half of that
        yield* pass(1500)
        assert.strictEqual(times(attemptFailed), 2)
        yield* pass(31_000 * 1.5)
        const afterAMinute = times(attemptFailed)
        assert.isAtLeast(afterAMinute, 6)
        assert.isAtMost(afterAMinute, 9)
        yield* pass(9 * 60_000)
        const inTheMiddle = times(attemptFailed)
        assert.isAtMost(inTheMiddle, 6 + 40)
        assert.isAtLeast(inTheMiddle, 6 + 12)
        yield* pass(10 * 60_000)
        const last = times(attemptFailed)
        yield* pass(60 * 60_000)
        assert.strictEqual(times(attemptFailed), last)
        const shown = yield* status
        assert.strictEqual(shown.status, "refresh_configuration_pending")
        assert.include(shown.error ?? "", "could not parse config file")
        yield* refresh
        yield* pass(0)
        assert.strictEqual(times(attemptFailed), last + 1)
        yield* pass(1500)
        assert.strictEqual(times(attemptFailed), last + 2)
        yield* publish(document())
        yield* pass(3000)
        assert.deepStrictEqual(yield* status, { status: "running", error: undefined })
      })
  )

  it.effect("C3 notifications meanwhile neither hasten nor add an attempt, and heal it no later", () =>
    Effect.gen(function* () {
      const { publish, refresh, status, times } = yield* worker
      yield* publish("{")
      yield* refresh
      yield* pass(0)
      for (let count = 0; count < 40; count++) {
        yield* pass(10)
        yield* refresh
      }
      assert.strictEqual(times(attemptFailed), 1)
      yield* publish(document())
      yield* pass(1100)
      assert.deepStrictEqual(yield* status, { status: "running", error: undefined })
      yield* pass(60_000)
      assert.strictEqual(times("to refresh-configuration-pending"), 2)
    })
  )

  it.effect("heals again and again while its source flaps", () =>
    Effect.gen(function* () {
      const { publish, refresh, status } = yield* worker
      for (const text of ["{", "[]", JSON.stringify({ ...document(), spec: null }), "<html>"]) {
        yield* publish(text)
        yield* refresh
        yield* pass(20_000)
        const failed = yield* status
        assert.strictEqual(failed.status, "refresh_configuration_pending")
        assert.notStrictEqual(failed.error, undefined)
        yield* publish(document({ operation_uuid: "0f657b36-4b0f-4a2d-9c2e-1dcd615e7d8c" }))
        yield* pass(45_000)
        assert.deepStrictEqual(yield* status, { status: "running", error: undefined })
      }
    })
  )

  it.effect("C13 for another timeline is not tried again by itself", () =>
    Effect.gen(function* () {
      const { publish, refresh, status, times } = yield* worker
      yield* publish(document({ timeline_id: "0123456789abcdef0123456789abcdef" }))
      yield* refresh
      yield* pass(60 * 60_000)
      assert.strictEqual(times(attemptFailed), 1)
      assert.include((yield* status).error ?? "", "timeline_id")
      yield* refresh
      yield* pass(0)
      assert.strictEqual(times(attemptFailed), 2)
    })
  )

  it.effect("is cut short by the end, without a word about it", () =>
    Effect.gen(function* () {
      const { publish, refresh, served, terminate, times } = yield* worker
      yield* publish("{")
      yield* refresh
      yield* pass(5000)
      const before = times("Refresh configuration:")
      yield* terminate
      assert.deepStrictEqual(yield* Fiber.join(served), { _tag: "Terminated" })
      assert.strictEqual(times("Refresh configuration:"), before)
    })
  )
})

describe("a refresh that finds nothing to do", () => {
  it.effect("C3 a thousand notifications in a second cost two fetches", () =>
    Effect.gen(function* () {
      const { refresh, status, times } = yield* worker
      for (let count = 0; count < 1000; count++) {
        yield* refresh
        yield* pass(1)
      }
      yield* pass(60_000)
      assert.strictEqual(times("from refresh-configuration-pending to refresh-configuration"), 2)
      assert.deepStrictEqual(yield* status, { status: "running", error: undefined })
    })
  )

  it.effect("C3 the first notification after a rest waits for nothing", () =>
    Effect.gen(function* () {
      const { refresh, times } = yield* worker
      for (let count = 1; count < 4; count++) {
        yield* refresh
        yield* pass(0)
        assert.strictEqual(times("from refresh-configuration to running"), count)
        yield* pass(1500)
      }
    })
  )
})
