/** `/configure` on a node that runs: what changes, what does not, and who is told. */
import * as Net from "node:net"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as PgWire from "../../src/layers/PgWire.ts"
import { jwkOf, newKey, token } from "../http/harness.ts"
import { type Bed, makeBed } from "../support/bed.ts"
import { type Compute, eventually, isAlive } from "../support/compute.ts"
import { catalog, configure, confVersion, onPageserver, refresh, urlOf } from "../support/reconfigure.ts"
import { syncsAtEnd } from "../support/storage.ts"

const pageserverOf = "SHOW neon.pageserver_connstring"

/** A role that cannot be made while the lock is held; the function returned lets it go. */
const slowRole = Effect.fnUntraced(function* (bed: Bed, node: Compute) {
  const session = yield* node.session
  yield* session.query("BEGIN; LOCK TABLE pg_catalog.pg_authid IN SHARE MODE")
  const spec = yield* catalog(bed, node, { roles: [{ name: "slow" }] })
  const asked = yield* Effect.forkScoped(configure(bed, node, { spec }))
  const waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'pg_catalog.pg_authid'::regclass"
  yield* Effect.suspend(() => session.query(waiting)).pipe(
    Effect.repeat({ until: ([set]) => set?.rows[0]?.[0] === "t" }),
    Effect.timeout("20 seconds")
  )
  return { asked, release: session.query("ROLLBACK") }
})

const rolesNamed = (node: Compute, like: string) =>
  Effect.map(node.sql(`SELECT rolname FROM pg_roles WHERE rolname LIKE '${like}' ORDER BY 1`), (rows) => rows.flat())
const databasesNamed = (node: Compute, like: string) =>
  Effect.map(node.sql(`SELECT datname FROM pg_database WHERE datname LIKE '${like}' ORDER BY 1`), (rows) => rows.flat())

/** A way to Postgres that begins at another address than that from which nobody is asked for a password. */
const detour = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = Net.createServer((from) => {
        const to = Net.connect({ port, host: "127.0.0.1", localAddress: "127.0.0.2" })
        for (const socket of [from, to]) socket.on("error", () => socket.destroy())
        from.pipe(to).pipe(from)
      })
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
      return server
    }),
    (server) => Effect.promise(() => new Promise((resolve) => server.close(resolve)))
  ).pipe(
    Effect.map((server) => {
      const address = server.address()
      return address === null || typeof address === "string" ? 0 : address.port
    })
  )

/** What a user sees who logs in with that password: itself, or the code of the refusal. */
const logIn = (node: Compute, user: string, database: string, password: string) =>
  Effect.gen(function* () {
    const session = yield* PgWire.connect({
      target: { host: "127.0.0.1", port: yield* detour(node.port), user, database, password, options: undefined }
    })
    const [set] = yield* session.query("SELECT session_user || ' in ' || current_database()")
    return set?.rows[0]?.[0]
  }).pipe(
    Effect.scoped,
    Effect.catch(({ code }) => Effect.succeed(code))
  )

describe("settings", () => {
  it.live("S-076 a setting changes in the running Postgres, and its log says so", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const postmaster = yield* node.postmaster
      const prefix = "%m [%p] [test_reconfigure]: "
      expect(yield* node.value("SHOW log_line_prefix")).not.toBe(prefix)
      const answer = yield* configure(bed, node, {
        settings: [{ name: "log_line_prefix", value: prefix, vartype: "string" }]
      })
      expect(answer.status, answer.text).toBe(200)
      yield* node.logged(`[test_reconfigure]: LOG:  parameter "log_line_prefix" changed to "${prefix}"`)
      expect(yield* node.value("SHOW log_line_prefix")).toBe(prefix)
      expect(yield* node.postmaster).toBe(postmaster)
      yield* node.logged("POST /configure")
      yield* node.stop
    })
  )

  it.live("C12 settings that need a restart are applied as far as that goes, and named until they are set back", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const waiting = Effect.gen(function* () {
        const { json } = yield* node.external("GET /reconcile")
        const { text } = yield* node.external("GET /metrics")
        return {
          named: Object(json).pending_restart,
          gauge: /^compute_ctl_pending_restart_settings (\d+)$/mu.exec(text)?.[1]
        }
      })
      expect(yield* waiting).toEqual({ named: [], gauge: undefined })
      const answer = yield* configure(bed, node, {
        settings: [
          { name: "shared_buffers", value: "32MB", vartype: "string" },
          { name: "max_connections", value: "50", vartype: "integer" },
          { name: "work_mem", value: "7MB", vartype: "string" }
        ]
      })
      expect(answer.status, answer.text).toBe(200)
      expect(Object.keys(Object(answer.json))).toHaveLength(6)
      expect(yield* waiting).toEqual({ named: ["max_connections", "shared_buffers"], gauge: "2" })
      yield* node.logged("settings that wait for a restart of Postgres: max_connections, shared_buffers")
      expect(yield* node.value("SHOW max_connections")).toBe("100")
      expect(yield* node.value("SHOW work_mem")).toBe("7MB")
      expect((yield* configure(bed, node)).status).toBe(200)
      expect(yield* waiting).toEqual({ named: [], gauge: "0" })
      yield* node.logged("no setting waits for a restart of Postgres any more")
      yield* node.stop
    })
  )

  it.live("S-043 S-044 other safekeepers, and the same in another order, are taken over live", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed({ safekeepers: 4 })
      const [one = "", two = "", three = "", four = ""] = bed.storage.safekeepers.map(({ address }) => address)
      const node = yield* bed.run({ spec: { safekeeper_connstrings: [one, two, three] } })
      const postmaster = yield* node.postmaster
      for (const safekeepers of [
        [one, three, four],
        [three, four, one]
      ]) {
        const answer = yield* configure(bed, node, { spec: { safekeeper_connstrings: safekeepers } })
        expect(answer.status, answer.text).toBe(200)
        expect(yield* node.value("SHOW neon.safekeepers")).toBe(safekeepers.join(","))
      }
      expect(yield* node.postmaster).toBe(postmaster)
      expect(node.stderr()).not.toContain("restarting walproposer")
      yield* node.stop
    })
  )

  it.live("S-083 open sessions see another pageserver without reconnecting, under the same postmaster", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed({ pageservers: 2 })
      const node = yield* bed.run()
      yield* node.sql("CREATE TABLE t AS SELECT generate_series(1, 100) AS n")
      const postmaster = yield* node.postmaster
      const sessions = [yield* node.session, yield* node.session, yield* node.session]
      for (const session of sessions) {
        const [set] = yield* session.query(pageserverOf)
        expect(set?.rows).toEqual([[urlOf(bed, 0)]])
      }
      const options = { spec: onPageserver(bed, 1) }
      yield* bed.publish(options)
      const answer = yield* configure(bed, node, options)
      expect(answer.status, answer.text).toBe(200)
      for (const session of sessions) {
        const seen = yield* Effect.suspend(() => session.query(pageserverOf)).pipe(
          Effect.repeat({ until: ([set]) => set?.rows[0]?.[0] !== urlOf(bed, 0) }),
          Effect.timeout("2 seconds")
        )
        expect(seen[0]?.rows).toEqual([[urlOf(bed, 1)]])
        const [sum] = yield* session.query("SELECT sum(n) FROM t")
        expect(sum?.rows).toEqual([["5050"]])
      }
      expect(yield* node.postmaster).toBe(postmaster)
      yield* node.stop
    })
  )

  it.live("S-084 a sharded layout names its pageservers in the order of the shards", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed({ pageservers: 2 })
      const node = yield* bed.run()
      const [first, second] = [urlOf(bed, 0), urlOf(bed, 1)]
      const answer = yield* configure(bed, node, {
        spec: {
          pageserver_connection_info: {
            shard_count: 2,
            stripe_size: 2048,
            shards: {
              "0102": { pageservers: [{ id: 2, libpq_url: second }] },
              "0002": { pageservers: [{ id: 1, libpq_url: first }] }
            },
            prefer_protocol: "libpq"
          }
        }
      })
      expect(answer.status, answer.text).toBe(200)
      expect(yield* node.value(pageserverOf)).toBe(`${first},${second}`)
      expect(yield* node.value("SHOW neon.stripe_size")).toBe("2048")
      yield* node.stop
    })
  )

  it.live("S-046 incomplete shards: the legacy form is refused, the other one fails; Postgres keeps what it had", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed({ pageservers: 2 })
      const node = yield* bed.run()
      const before = yield* confVersion(node)
      const legacy = yield* configure(bed, node, {
        spec: {
          pageserver_connection_info: undefined,
          pageserver_connstring: `${urlOf(bed, 0)},${urlOf(bed, 1)}`
        }
      })
      expect([legacy.status, legacy.json]).toEqual([400, { error: "2 shards but no stripe_size" }])
      expect(yield* node.status).toMatchObject({ status: "running", error: null })
      const half = yield* configure(bed, node, {
        spec: {
          pageserver_connection_info: {
            shard_count: 2,
            stripe_size: 2048,
            shards: { "0002": { pageservers: [{ id: 1, libpq_url: urlOf(bed, 0) }] } },
            prefer_protocol: "libpq"
          }
        }
      })
      expect(half.status).toBe(500)
      expect(half.json).toEqual({ error: expect.stringMatching(/^compute configuration failed: /u) })
      expect(yield* node.status).toMatchObject({ status: "failed", error: expect.stringContaining("0102") })
      expect(yield* confVersion(node)).toBe(before)
      expect(yield* node.value(pageserverOf)).toBe(urlOf(bed, 0))
    })
  )
})

describe("a document that is refused", () => {
  it.live("S-078 S-079 S-081 C13 leaves status, file and Postgres alone", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const before = yield* confVersion(node)
      const safekeepers = yield* node.value("SHOW neon.safekeepers")
      const [one = ""] = bed.storage.safekeepers.map(({ address }) => address)
      const other = "0123456789abcdef0123456789abcdef"
      const { compute_ctl_config: computeCtlConfig, spec } = yield* bed.document()
      const cases = [
        [{ spec: { pageserver_connection_info: undefined } }, 400, "pageserver connection information"],
        [{ spec: { safekeeper_connstrings: [one, one] } }, 400, "duplicate entry in safekeeper_connstrings:"],
        [{ document: () => ({ spec }) }, 422, "compute_ctl_config"],
        [{ document: () => ({ compute_ctl_config: computeCtlConfig }) }, 422, "spec"],
        [{ spec: { tenant_id: other } }, 400, `tenant_id: this compute serves tenant ${bed.storage.tenantId}`],
        [{ spec: { timeline_id: other } }, 400, `timeline_id: this compute serves timeline ${bed.storage.timelineId}`],
        [{ spec: { mode: "Replica" } }, 400, "mode: this compute is primary"],
        [{ spec: { mode: { Static: "0/169AD58" } } }, 400, "mode: this compute is primary"]
      ] as const
      for (const [options, status, text] of cases) {
        const answer = yield* configure(bed, node, options)
        expect([answer.status, answer.json], text).toEqual([status, { error: expect.stringContaining(text) }])
        expect(yield* node.status).toMatchObject({ status: "running", error: null })
      }
      expect(yield* confVersion(node)).toBe(before)
      expect(yield* node.value("SHOW neon.safekeepers")).toBe(safekeepers)
      expect(node.stderr()).not.toContain("from running to configuration-pending")
      yield* node.stop
    })
  )

  it.live("S-080 while the node starts is 412, and the start goes on", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const slow = bed.storage.pageserver.faults.add({ at: "command", do: "hang" })
      const node = yield* bed.start()
      yield* bed.storage.pageserver.commands.until(() => true)
      const answer = yield* configure(bed, node)
      expect([answer.status, answer.json]).toEqual([412, { error: "invalid compute status: init" }])
      slow.release()
      yield* node.waitFor("running")
      yield* node.stop
    })
  )
})

describe("keys", () => {
  it.live("S-082 H6 those of the body replace nothing", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const key = newKey()
      const answer = yield* configure(bed, node, {
        document: (document) => ({ ...document, compute_ctl_config: { jwks: { keys: [jwkOf(key)] } } })
      })
      expect(answer.status, answer.text).toBe(200)
      const stranger = token(key, { compute_id: bed.computeId() }, { alg: "EdDSA", kid: "k1" })
      const refused = yield* node.external("GET /status", { headers: { authorization: `Bearer ${stranger}` } })
      expect(refused.status).toBe(401)
      expect((yield* node.external("GET /status")).status).toBe(200)
      yield* node.stop
    })
  )
})

describe("roles and databases", () => {
  it.live("S-077 the answer comes when all databases are there, and is what /status says", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const names = Array.from({ length: 20 }, (_, index) => `db${String(index + 1).padStart(2, "0")}`)
      const spec = yield* catalog(bed, node, {
        roles: [{ name: "alice" }],
        databases: names.map((name) => ({ name, owner: "alice" }))
      })
      const answer = yield* configure(bed, node, { spec })
      expect(answer.status, answer.text).toBe(200)
      expect(yield* databasesNamed(node, "db__")).toEqual(names)
      expect(answer.json).toEqual(yield* node.status)
      expect(answer.json).toMatchObject({ status: "running", error: null })
      yield* node.stop
    })
  )

  it.live("S-093 S-098 S-099 S-100 are made once, stay when they are not named, and go when a delta says so", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      yield* node.sql("CREATE ROLE own_role")
      yield* node.sql("CREATE DATABASE own_db OWNER own_role")
      yield* node.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE model PASSWORD 'secret'")
      const verifier = yield* node.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'model'")
      const made = yield* catalog(bed, node, {
        roles: [{ name: "r1", encrypted_password: verifier }, { name: "r2" }],
        databases: [
          { name: "d1", owner: "r1" },
          { name: "d2", owner: "r2" }
        ]
      })
      expect((yield* configure(bed, node, { spec: made })).status).toBe(200)
      const objects =
        "SELECT oid, datname, datdba::regrole FROM pg_database UNION ALL SELECT oid, rolname, 0 FROM pg_roles ORDER BY 1"
      const before = yield* node.sql(objects)
      expect(yield* node.value("SELECT datdba::regrole FROM pg_database WHERE datname = 'd1'")).toBe("r1")
      expect(yield* node.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'r1'")).toBe(verifier)
      expect(yield* logIn(node, "r1", "d1", "secret")).toBe("r1 in d1")
      expect(yield* logIn(node, "r1", "d1", "wrong")).toBe("28P01")
      yield* node.sql("CREATE TABLE t AS SELECT generate_series(1, 10)", "d1")
      for (const _ of [1, 2]) {
        const again = yield* configure(bed, node, { spec: made })
        expect(again.status, again.text).toBe(200)
      }
      expect(yield* node.sql(objects)).toEqual(before)
      expect(yield* node.value("SELECT count(*) FROM t", "d1")).toBe("10")
      const emptied = yield* configure(bed, node, { spec: yield* catalog(bed, node, {}) })
      expect(emptied.status, emptied.text).toBe(200)
      expect(yield* node.sql(objects)).toEqual(before)
      const deltas = [
        { action: "delete_db", name: "d1" },
        { action: "delete_db", name: "d2" },
        { action: "delete_role", name: "r1" },
        { action: "delete_role", name: "r2" }
      ]
      for (const _ of [1, 2]) {
        const dropped = yield* configure(bed, node, {
          spec: yield* catalog(bed, node, {}, { delta_operations: deltas })
        })
        expect(dropped.status, dropped.text).toBe(200)
      }
      expect(yield* databasesNamed(node, "d_")).toEqual([])
      expect(yield* rolesNamed(node, "r_")).toEqual([])
      expect([yield* databasesNamed(node, "own%"), yield* rolesNamed(node, "own%")]).toEqual([["own_db"], ["own_role"]])
      expect(yield* node.value("SELECT datdba::regrole FROM pg_database WHERE datname = 'own_db'")).toBe("own_role")
      yield* node.stop
    })
  )

  it.live("S-085 C2 C4 C11 a step that fails is 500 and `failed`; Postgres answers, and a refresh heals", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const postmaster = yield* node.postmaster
      const options = [{ name: "nonsense", value: null, vartype: "bool" }]
      const bad = yield* catalog(bed, node, { roles: [{ name: "bad", options }, { name: "good" }] })
      const answer = yield* configure(bed, node, { spec: bad })
      expect([answer.status, answer.json]).toEqual([
        500,
        { error: expect.stringMatching(/^compute configuration failed: ".*bad/u) }
      ])
      expect(yield* node.status).toMatchObject({ status: "failed", error: expect.stringContaining("bad") })
      expect((yield* node.external("GET /reconcile")).json).toMatchObject({
        last_apply: {
          counts: { create_role: 1 },
          failures: [{ object: 'role "bad"', operation: "create_role", outcome: "failed", sqlstate: "42601" }],
          error: expect.stringContaining("bad")
        }
      })
      expect(yield* node.value("SELECT 1")).toBe("1")
      expect(yield* rolesNamed(node, "good")).toEqual(["good"])
      expect(yield* node.file("compute_ctl_temp_override.conf")).toBe("")
      const refused = yield* configure(bed, node)
      expect([refused.status, refused.json]).toEqual([412, { error: "invalid compute status: failed" }])
      const before = yield* confVersion(node)
      expect((yield* refresh(node)).status).toBe(200)
      yield* node.logged("from refresh-configuration to running")
      expect(yield* node.status).toMatchObject({ status: "running", error: null })
      expect(yield* confVersion(node)).not.toBe(before)
      expect(yield* node.postmaster).toBe(postmaster)
      expect((yield* configure(bed, node)).status).toBe(200)
      yield* node.stop
    })
  )
})

describe("an apply that takes long", () => {
  it.live("lets no second one in, and goes on when its client leaves", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const { asked, release } = yield* slowRole(bed, node)
      expect(yield* node.status).toMatchObject({ status: "configuration", error: null })
      const second = yield* configure(bed, node)
      expect([second.status, second.json]).toEqual([412, { error: "invalid compute status: configuration" }])
      yield* Fiber.interrupt(asked)
      yield* release
      yield* node.waitFor("running")
      expect(yield* rolesNamed(node, "slow")).toEqual(["slow"])
      yield* node.stop
    })
  )

  it.live("C6 C7 is ended by /terminate: 500 for its caller, and an end like any other", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const { asked } = yield* slowRole(bed, node)
      const postmaster = yield* node.postmaster
      const began = performance.now()
      const answer = yield* node.terminate("immediate")
      expect([answer.status, answer.json]).toEqual([200, { lsn: expect.stringMatching(/^0\/[0-9A-F]+$/u) }])
      const configured = yield* Fiber.join(asked)
      expect([configured.status, configured.json]).toEqual([
        500,
        { error: 'compute configuration failed: "the compute was terminated"' }
      ])
      expect((yield* node.exit).code).toBe(0)
      expect(performance.now() - began).toBeLessThan(5000)
      expect(isAlive(postmaster)).toBe(false)
      expect(syncsAtEnd(bed)).toHaveLength(1)
    })
  )

  it.live("C6 ends with Postgres, when that dies meanwhile", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const { asked } = yield* slowRole(bed, node)
      const postmaster = yield* node.postmaster
      bed.storage.stub.faults.add({ at: "sync", do: "print", text: "0/5000000" })
      yield* Effect.sync(() => process.kill(postmaster, "SIGQUIT"))
      expect((yield* Fiber.join(asked)).status).toBe(500)
      yield* eventually("the postmaster is gone", () => !isAlive(postmaster))
      yield* node.exit
    })
  )
})
