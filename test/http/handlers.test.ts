import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as ComputeStatus from "../../src/domain/ComputeStatus.ts"
import * as Lsn from "../../src/domain/Lsn.ts"
import { ConfigurationFailed, TerminationFailed } from "../../src/layers/ComputeNode.ts"
import { Metrics } from "../../src/layers/Metrics.ts"
import {
  configuration,
  eventsTo,
  jsonBody,
  parsedSpec,
  request,
  spec,
  start,
  startTime,
  tenant,
  timeline
} from "./harness.ts"

type Node = Awaited<ReturnType<typeof start>>

const refused = (status: ComputeStatus.ComputeStatus) => ({
  error: `invalid compute status: ${ComputeStatus.display(status)}`
})

/** Where no Postgres listens. */
const nobody = {
  host: "localhost",
  port: 1,
  user: "cloud_admin",
  database: "postgres",
  password: undefined,
  options: undefined
}

const statuses = ComputeStatus.ComputeStatus.literals

/** Serves one submitted spec as the program does. */
const bringUp = (node: Node, outcome: Exit.Exit<void, ConfigurationFailed>): Promise<void> =>
  node.run(
    Effect.gen(function* () {
      const { done, spec: submitted } = yield* node.node.nextSubmitted
      yield* Effect.orDie(node.node.transition("startup_begins"))
      yield* Effect.orDie(
        Exit.isSuccess(outcome)
          ? node.node.transition("startup_succeeded", (state) => ({ ...state, spec: submitted, pending: undefined }))
          : node.node.transition("startup_failed", (state) => ({ ...state, error: "first\n\nCaused by:\n    second" }))
      )
      yield* Deferred.done(done, outcome)
    })
  )

/** Applies one submitted spec to a node that runs, as the program does. */
const applied = (node: Node): Promise<void> =>
  node.run(
    Effect.gen(function* () {
      const { done, spec: submitted } = yield* node.node.nextSubmitted
      yield* Effect.orDie(node.node.transition("configuration_begins"))
      yield* Effect.orDie(
        node.node.transition("configuration_succeeded", (state) => ({ ...state, spec: submitted, pending: undefined }))
      )
      yield* Deferred.succeed(done, undefined)
    })
  )

const end = (node: Node, outcome: Exit.Exit<{ readonly lsn: Lsn.Lsn | null }, TerminationFailed>): Promise<void> =>
  node.run(
    Effect.gen(function* () {
      yield* node.node.terminateRequested
      const lsn = Exit.isSuccess(outcome) ? outcome.value.lsn : null
      if (Exit.isSuccess(outcome)) {
        yield* Effect.orDie(node.node.transition("stopped", (state) => ({ ...state, terminateLsn: lsn })))
      }
      yield* node.node.ended(outcome)
    })
  )

const statusOf = async (node: Node): Promise<unknown> => (await node.external("GET /status")).json

describe("GET /status", () => {
  it("has all six members, null where there is nothing", async () => {
    await using node = await start()
    expect(await statusOf(node)).toEqual({
      start_time: "2026-11-21T08:49:07.987Z",
      tenant: null,
      timeline: null,
      status: "empty",
      last_active: null,
      error: null
    })
  })

  it("shows the ids of the spec that is being started, times in their two spellings, and the error", async () => {
    await using node = await start()
    const pending = parsedSpec()
    await node.run(
      node.node.update((state) => ({ ...state, pending, lastActive: state.startTime + 1000, error: "a\n\nb" }))
    )
    expect(await statusOf(node)).toEqual({
      start_time: "2026-11-21T08:49:07.987Z",
      tenant,
      timeline,
      status: "empty",
      last_active: "2026-11-21T08:49:08.987+00:00",
      error: "a\n\nb"
    })
  })

  it.each(statuses)("is served in status %s", async (status) => {
    await using node = await start({ events: eventsTo[status] })
    expect(await statusOf(node)).toMatchObject({ status })
  })
})

describe("GET /metrics.json", () => {
  it("S-065 has all thirteen timings, 0 until measured", async () => {
    await using node = await start()
    const before = (await node.external("GET /metrics.json")).json
    expect(Object.values(Object(before))).toEqual(Array.from({ length: 13 }, () => 0))
    await node.run(node.node.recordMetrics({ basebackup_ms: 118, basebackup_bytes: 5_169_019 }))
    expect((await node.external("GET /metrics.json")).json).toEqual({
      ...Object(before),
      basebackup_ms: 118,
      basebackup_bytes: 5_169_019
    })
  })
})

describe("GET /timeline", () => {
  it("shows the stages, also those that run and those that failed", async () => {
    await using node = await start()
    expect((await node.external("GET /timeline")).json).toEqual({ stages: [] })
    await node.run(
      node.node.update((state) => ({
        ...state,
        timeline: [
          { stage: "start_compute", started: startTime, duration: undefined, error: undefined },
          { stage: "get_basebackup", started: startTime + 5, duration: 12, error: "no such timeline" }
        ]
      }))
    )
    expect((await node.external("GET /timeline")).json).toEqual({
      stages: [
        { stage: "start_compute", started_at: "2026-11-21T08:49:07.987Z", duration_ms: null, error: null },
        {
          stage: "get_basebackup",
          started_at: "2026-11-21T08:49:07.992Z",
          duration_ms: 12,
          error: "no such timeline"
        }
      ]
    })
  })
})

describe("GET /reconcile", () => {
  it("shows what the last apply did and what it could not do", async () => {
    await using node = await start()
    expect((await node.external("GET /reconcile")).json).toEqual({ last_apply: null, pending_restart: [] })
    const failure = { object: 'role "a"', operation: "drop_role", database: "postgres" }
    await node.run(
      node.node.update((state) => ({
        ...state,
        pendingRestart: ["max_connections"],
        lastApply: {
          mode: "full",
          startedAt: startTime,
          millis: 7,
          counts: { create_role: 2 },
          failures: [{ ...failure, outcome: "failed", sqlstate: "2BP01", message: undefined }],
          warnings: [],
          error: "the catalog could not be brought up to date"
        }
      }))
    )
    expect((await node.external("GET /reconcile")).json).toEqual({
      last_apply: {
        mode: "full",
        started_at: "2026-11-21T08:49:07.987Z",
        duration_ms: 7,
        counts: { create_role: 2 },
        failures: [{ ...failure, outcome: "failed", sqlstate: "2BP01", message: null }],
        warnings: [],
        error: "the catalog could not be brought up to date"
      },
      pending_restart: ["max_connections"]
    })
  })
})

describe("GET /lfc", () => {
  it("the states before anything was asked for have no other members", async () => {
    await using node = await start()
    expect((await node.external("GET /lfc/prewarm")).json).toEqual({ status: "not_prewarmed" })
    expect((await node.external("GET /lfc/offload")).json).toEqual({ status: "not_offloaded" })
  })
})

describe("gates", () => {
  it.each(statuses)("POST /configure in status %s", async (status) => {
    if (status === "empty") return
    await using node = await start({ events: eventsTo[status] })
    const asked = node.external("POST /configure", jsonBody(configuration))
    if (status === "running") {
      await applied(node)
      const reply = await asked
      expect([reply.status, reply.json]).toEqual([200, await statusOf(node)])
    } else {
      const reply = await asked
      expect([reply.status, reply.json]).toEqual([412, refused(status)])
    }
    expect(await statusOf(node)).toMatchObject({ status })
  })

  /** With the status where they are let through; no Postgres listens here. */
  const running = [
    ["external", "POST /check_writability", {}, 500],
    ["external", "GET /insights", {}, 503],
    ["internal", "POST /extensions", jsonBody({ extension: "a", database: "b", version: "1" }), 503],
    ["internal", "POST /grants", jsonBody({ database: "a", schema: "b", role: "c", privileges: [] }), 503]
  ] as const

  it.each(statuses)("S-072 S-138 routes that need a running compute, in status %s", async (status) => {
    await using node = await start({ events: eventsTo[status], params: { postgres: nobody } })
    for (const [server, what, call, letThrough] of running) {
      const reply = await node[server](what, call)
      if (status === "running") expect(reply.status, what).toBe(letThrough)
      else expect([reply.status, reply.json], what).toEqual([412, refused(status)])
    }
  })

  it.each(statuses)("POST /refresh_configuration in status %s counts, whatever it says", async (status) => {
    await using node = await start({ events: eventsTo[status] })
    const reply = await node.internal("POST /refresh_configuration", {
      body: "",
      headers: { "content-type": "application/x-www-form-urlencoded" }
    })
    const accepted = ["init", "running", "failed", "refresh_configuration_pending"].includes(status)
    if (accepted) {
      expect([reply.status, reply.text]).toEqual([200, ""])
      expect(reply.headers["content-type"]).toBeUndefined()
      expect(reply.headers["content-length"]).toBe("0")
    } else {
      expect([reply.status, reply.json]).toEqual([
        500,
        { error: `Cannot refresh compute configuration in state ${ComputeStatus.debugName(status)}` }
      ])
    }
    expect(await statusOf(node)).toMatchObject({
      status: ["running", "failed"].includes(status) ? "refresh_configuration_pending" : status
    })
    const text = (await request(node.externalPort, "GET /metrics")).text
    expect(text).toContain("\npg_cctl_pagestream_request_errors_total 1\n")
  })

  it.each([
    ["external", "GET /dbs_and_roles", {}, "cannot connect to localhost:1"],
    ["external", "GET /database_schema?database=a", {}, "cannot connect to localhost:1"],
    ["external", "GET /hadron_liveness_probe", {}, "cannot connect to localhost:1"],
    ["external", "GET /insights", {}, "cannot connect to localhost:1"],
    [
      "internal",
      "POST /extensions",
      jsonBody({ extension: "a", database: "b", version: "1" }),
      "failed to install extension: Failed to connect to the database: cannot connect to localhost:1"
    ],
    [
      "internal",
      "POST /grants",
      jsonBody({ database: "a", schema: "b", role: "c", privileges: [] }),
      "failed to grant role privileges to the schema: Failed to connect to the database: cannot connect to localhost:1"
    ]
  ] as const)("H3 %s %s is 503 where no Postgres listens", async (server, what, call, error) => {
    await using node = await start({ events: eventsTo.running, params: { postgres: nobody } })
    const reply = await node[server](what, call)
    expect([reply.status, reply.json]).toEqual([503, { error }])
  })

  it("GET /autoscaling_metrics is 500 where no neon extension listens", async () => {
    await using node = await start({ events: eventsTo.running })
    const reply = await node.external("GET /autoscaling_metrics")
    expect([reply.status, reply.json]).toEqual([
      500,
      { error: "connecting to communicator control socket: No such file or directory (os error 2)" }
    ])
  })
})

describe("routes whose machinery is not there", () => {
  const remote = { public_extensions: ["public"], custom_extensions: null, library_index: {}, extension_data: {} }
  const extension = { control_data: {}, archive_path: "x" }
  const files = {
    remote_extensions: {
      ...remote,
      custom_extensions: ["custom", "missing"],
      library_index: { lib: "custom", foo: "public", forbidden: "secret" },
      extension_data: { public: extension, custom: extension, secret: extension }
    }
  }
  const promote = (mode: string) => jsonBody({ spec: { ...spec, mode }, wal_flush_lsn: "0/10" })

  it.each([
    ["POST /lfc/prewarm", {}],
    ["POST /lfc/prewarm?from_endpoint=ep-1", {}],
    ["POST /lfc/offload", {}],
    ["POST /promote", promote("Primary")]
  ] as const)("%s is 412 without a spec", async (what, call) => {
    await using node = await start()
    const reply = await node.external(what, call)
    expect([reply.status, reply.json]).toEqual([412, refused("empty")])
  })

  it.each(["POST /lfc/prewarm", "POST /lfc/offload"])("%s is 501 with a spec", async (what) => {
    await using node = await start({ events: eventsTo.running, live: parsedSpec() })
    const reply = await node.external(what)
    expect([reply.status, reply.json]).toEqual([501, { error: expect.stringMatching(/ is not implemented$/u) }])
  })

  it("DELETE /lfc/prewarm is 202 without a body, as nothing is under way", async () => {
    await using node = await start()
    const reply = await node.external("DELETE /lfc/prewarm")
    expect([reply.status, reply.text, reply.headers["content-length"]]).toEqual([202, "", "0"])
    expect((await node.external("GET /lfc/prewarm")).json).toEqual({ status: "not_prewarmed" })
  })

  it("POST /promote looks at the body, then at the mode of the compute", async () => {
    await using primary = await start({ events: eventsTo.running, live: parsedSpec() })
    const { tenant_id: _, ...anonymous } = spec
    const invalid = await primary.external("POST /promote", jsonBody({ spec: anonymous, wal_flush_lsn: "0/10" }))
    expect([invalid.status, invalid.json]).toEqual([400, { error: "tenant id should be provided" }])
    const reply = await primary.external("POST /promote", promote("Primary"))
    expect([reply.status, reply.json]).toEqual([
      500,
      { status: "failed", error: 'compute mode "primary" is not replica' }
    ])
    await using replica = await start({ events: eventsTo.running, live: parsedSpec({ mode: "Replica" }) })
    expect((await replica.external("POST /promote", promote("Primary"))).status).toBe(501)
  })

  it("POST /extension_server is 412 without storage or spec, 409 where the spec says nothing, then 404", async () => {
    const params = { remoteExtBaseUrl: "http://127.0.0.1:1/" }
    const answer = async (node: Node, file: string) => {
      const { json, status } = await node.internal(`POST /extension_server/${file}`)
      return [status, Object(json).error]
    }
    await using bare = await start({ live: parsedSpec(files) })
    expect(await answer(bare, "public")).toEqual([412, "remote storage is not configured"])
    await using empty = await start({ params })
    expect(await answer(empty, "public")).toEqual([412, "invalid compute status: empty"])
    await using silent = await start({ params, live: parsedSpec() })
    expect(await answer(silent, "public")).toEqual([409, "information about remote extensions is unavailable"])
    await using node = await start({ params, live: parsedSpec(files) })
    for (const [file, expected] of [
      ["public", [501, "the download of extensions is not implemented"]],
      ["custom", [501, "the download of extensions is not implemented"]],
      ["nope", [404, "extension nope is not found"]],
      ["secret", [404, "extension secret is not found"]],
      ["missing", [404, "real_ext_name missing is not found"]],
      ["lib.so.1?is_library=true", [501, "the download of extensions is not implemented"]],
      ["foo.sonic.so?is_library=true", [501, "the download of extensions is not implemented"]],
      ["nope.so?is_library=true", [404, "library nope is not found"]],
      ["toString?is_library=true", [404, "library toString is not found"]],
      ["forbidden?is_library=true", [404, "extension secret is not found"]],
      ["a%20b/c?is_library=false", [404, "extension a b/c is not found"]]
    ] as const) {
      expect(await answer(node, file), file).toEqual(expected)
    }
    expect((await node.internal("POST /extension_server/public?is_library=1")).status).toBe(400)
  })
})

describe("POST /configure on an empty compute", () => {
  it("S-077 answers with the status once the spec is up", async () => {
    await using node = await start()
    const asked = node.external("POST /configure", jsonBody(configuration))
    await expect.poll(() => statusOf(node)).toMatchObject({ status: "configuration_pending", tenant, timeline })
    const second = await node.external("POST /configure", jsonBody(configuration))
    expect([second.status, second.json]).toEqual([412, refused("configuration_pending")])
    await bringUp(node, Exit.void)
    const reply = await asked
    expect([reply.status, reply.json]).toEqual([200, await statusOf(node)])
    expect(reply.json).toMatchObject({ status: "running", tenant, timeline })
  })

  it("a spec that does not come up is 500 with the cause", async () => {
    await using node = await start()
    const asked = node.external("POST /configure", jsonBody(configuration))
    await bringUp(node, Exit.fail(new ConfigurationFailed({ message: 'first "one"\n\nCaused by:\n    second' })))
    const reply = await asked
    expect([reply.status, reply.json]).toEqual([
      500,
      { error: 'compute configuration failed: "first \\"one\\"\\n\\nCaused by:\\n    second"' }
    ])
    expect(await statusOf(node)).toMatchObject({ status: "failed", error: "first\n\nCaused by:\n    second" })
  })

  it("an end in between ends the call", async () => {
    await using node = await start()
    const asked = node.external("POST /configure", jsonBody(configuration))
    await expect.poll(() => statusOf(node)).toMatchObject({ status: "configuration_pending" })
    const stopping = node.external("POST /terminate")
    await end(node, Exit.succeed({ lsn: null }))
    expect((await asked).status).toBe(500)
    expect((await stopping).status).toBe(200)
  })

  it("a client that leaves stops nothing", async () => {
    await using node = await start()
    const patience = new AbortController()
    const asked = node.external("POST /configure", { ...jsonBody(configuration), signal: patience.signal })
    await expect.poll(() => statusOf(node)).toMatchObject({ status: "configuration_pending" })
    patience.abort()
    await expect(asked).rejects.toThrow()
    await bringUp(node, Exit.void)
    expect(await statusOf(node)).toMatchObject({ status: "running", tenant })
  })

  it("the keys of the body change nothing", async () => {
    await using node = await start()
    const asked = node.external("POST /configure", jsonBody(configuration))
    await bringUp(node, Exit.void)
    await asked
    expect((await node.external("GET /status")).status).toBe(200)
  })

  it("the spec that the program gets is the one that was sent, with the span of the request", async () => {
    await using node = await start()
    const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    const asked = node.external("POST /configure", {
      ...jsonBody(configuration),
      headers: { "content-type": "application/json", traceparent: `00-${trace}-00f067aa0ba902b7-01` }
    })
    const submitted = await node.run(node.node.nextSubmitted)
    expect(submitted.spec).toMatchObject({
      tenantId: tenant,
      timelineId: timeline,
      safekeepers: spec.safekeeper_connstrings
    })
    expect(submitted.parent).toMatchObject({ name: "HTTP", traceId: trace })
    await node.run(Deferred.succeed(submitted.done, undefined))
    await asked
  })
})

describe("POST /terminate", () => {
  it.each(statuses)("is accepted in status %s", async (status) => {
    if (["empty", "terminated", "termination_pending_fast", "termination_pending_immediate"].includes(status)) return
    await using node = await start({ events: eventsTo[status] })
    const asked = node.external("POST /terminate?mode=immediate")
    await expect.poll(() => statusOf(node)).toMatchObject({ status: "termination_pending_immediate" })
    await end(node, Exit.succeed({ lsn: Lsn.fromBigInt(0x2000100n) }))
    const reply = await asked
    expect([reply.status, reply.json]).toEqual([200, { lsn: "0/2000100" }])
  })

  it("fast is the default, an optional mode the other; all callers share the outcome, later ones get 201", async () => {
    const lines: Array<string> = []
    await using node = await start({ events: eventsTo.running, log: (line) => lines.push(line) })
    const first = node.external("POST /terminate")
    await expect.poll(() => statusOf(node)).toMatchObject({ status: "termination_pending_fast" })
    const second = node.external("POST /terminate?mode=immediate")
    await expect.poll(() => statusOf(node)).toMatchObject({ status: "termination_pending_immediate" })
    const third = node.external("POST /terminate?mode=fast&reason=x")
    await expect.poll(() => lines).toContain("Info POST /terminate?mode=fast&reason=x")
    await end(node, Exit.succeed({ lsn: Lsn.fromBigInt((1n << 32n) + 255n) }))
    for (const reply of await Promise.all([first, second, third])) {
      expect([reply.status, reply.json]).toEqual([200, { lsn: "1/FF" }])
    }
    const late = await node.external("POST /terminate?mode=immediate")
    expect([late.status, late.json]).toEqual([201, { lsn: "1/FF" }])
    expect(await statusOf(node)).toMatchObject({ status: "terminated" })
  })

  it("without a position the answer has null", async () => {
    await using node = await start({ events: eventsTo.running })
    const asked = node.external("POST /terminate")
    await end(node, Exit.succeed({ lsn: null }))
    expect((await asked).json).toEqual({ lsn: null })
    const late = await node.external("POST /terminate")
    expect([late.status, late.json]).toEqual([201, { lsn: null }])
  })

  it("an end that failed is 500 with the cause", async () => {
    await using node = await start({ events: eventsTo.running })
    const asked = node.external("POST /terminate")
    await end(node, Exit.fail(new TerminationFailed({ message: "safekeepers are not synced" })))
    const reply = await asked
    expect([reply.status, reply.json]).toEqual([500, { error: "safekeepers are not synced" }])
  })

  it("on an empty compute it answers at once", async () => {
    await using node = await start()
    const reply = await node.external("POST /terminate")
    expect([reply.status, reply.json]).toEqual([200, { lsn: null }])
    expect(await statusOf(node)).toMatchObject({ status: "termination_pending_fast" })
    await node.run(node.node.terminateRequested)
  })

  it("on an empty compute in lakebase mode the answer has no body", async () => {
    await using node = await start({ params: { lakebaseMode: true } })
    const reply = await node.external("POST /terminate")
    expect([reply.status, reply.text]).toEqual([200, ""])
    expect(reply.headers["content-type"]).toBeUndefined()
  })
})

describe("GET /metrics", () => {
  it("S-064 has exactly one status series, which follows the node", async () => {
    await using node = await start()
    const series = async () =>
      (await request(node.externalPort, "GET /metrics")).text
        .split("\n")
        .filter((line) => line.startsWith("compute_ctl_up"))
    expect(await series()).toEqual(['compute_ctl_up{build_tag="latest",status="empty"} 1'])
    for (const status of statuses) {
      await node.run(Metrics.use((metrics) => metrics.setStatus(status)))
      expect(await series()).toEqual([`compute_ctl_up{build_tag="latest",status="${ComputeStatus.display(status)}"} 1`])
    }
  })

  it("is text of the Prometheus format", async () => {
    await using node = await start()
    const reply = await request(node.externalPort, "GET /metrics")
    expect(reply.headers["content-type"]).toBe("text/plain; version=0.0.4")
    expect(reply.text.endsWith("\n")).toBe(true)
  })
})
