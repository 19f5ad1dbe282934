/** Routes that ask Postgres, or change something in it, on a node that runs. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as PgWire from "../../src/layers/PgWire.ts"
import { makeBed } from "../support/bed.ts"
import { type Compute, eventually } from "../support/compute.ts"

const as = (node: Compute, user: string, database: string) =>
  PgWire.connect({
    target: { host: "127.0.0.1", port: node.port, user, database, password: undefined, options: undefined }
  })

it.live("S-138 an empty compute refuses the helpers of its neighbours, and is alive but not ready", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.start({ document: ({ spec: _, ...rest }) => rest })
    yield* node.waitFor("empty")
    const extension = { extension: "hstore", database: "postgres", version: "1.8" }
    const grant = { database: "postgres", schema: "public", role: "x", privileges: ["USAGE"] }
    for (const reply of [
      yield* node.internal("POST /extensions", { body: extension }),
      yield* node.internal("POST /grants", { body: grant })
    ]) {
      expect([reply.status, reply.json]).toEqual([412, { error: "invalid compute status: empty" }])
    }
    const alive = yield* node.external("GET /healthz", { headers: {} })
    expect([alive.status, alive.json]).toMatchObject([200, { loops: [{ name: "status" }, { name: "signals" }, {}] }])
    const ready = yield* node.external("GET /readyz", { headers: {} })
    expect([ready.status, ready.json]).toEqual([503, { error: "not ready: compute status is empty" }])
    expect((yield* node.external("GET /hadron_liveness_probe")).status).toBe(503)
    yield* node.terminate()
    expect((yield* node.exit).code).toBe(0)
  })
)

it.live("S-131 all roles and databases are listed, with what is stored of them", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.run()
    const { cluster } = (yield* bed.document()).spec
    const verifier =
      "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$L8gfk2vT/xsUcH5JAJH1MJzhhiPb7e10GqM/YzUrL4Y=:cFgyfg2244XE1OAqtpz+YSApH0ihf7BFHiSv7TA6MXU="
    const roles = ["alice", `o'brien "bob" $1 🐘`]
    const spec = {
      skip_pg_catalog_updates: false,
      cluster: {
        ...Object(cluster),
        roles: roles.map((name) => ({ name, encrypted_password: verifier, options: null })),
        databases: roles.map((owner) => ({ name: `db of ${owner}`, owner, options: null }))
      }
    }
    const document = yield* bed.document({ spec })
    const configured = yield* node.external("POST /configure", { body: document })
    expect(configured.status, configured.text).toBe(200)
    const reply = yield* node.external("GET /dbs_and_roles")
    const database = { restrict_conn: false, invalid: false, options: null }
    expect(reply.status).toBe(200)
    expect(reply.json).toEqual({
      roles: expect.arrayContaining([
        { name: "cloud_admin", encrypted_password: null, options: null },
        ...roles.map((name) => ({ name, encrypted_password: verifier, options: null }))
      ]),
      databases: expect.arrayContaining([
        { ...database, name: "postgres", owner: "cloud_admin" },
        { ...database, name: "template0", owner: "cloud_admin", restrict_conn: true },
        ...roles.map((owner) => ({ ...database, name: `db of ${owner}`, owner }))
      ])
    })
    yield* node.stop
  })
)

it.live("S-136 an extension is created, updated, and left alone where it has the version", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.run()
    const database = `test "extensions"`
    yield* node.sql(`CREATE DATABASE "test ""extensions"""`)
    const version = "SELECT extversion, extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'hstore'"
    const install = (body: Readonly<Record<string, string>>) =>
      node.internal("POST /extensions", { body: { extension: "hstore", database, ...body } })
    for (const wanted of ["1.4", "1.4", "1.8"]) {
      const reply = yield* install({ version: wanted })
      expect([reply.status, reply.json]).toEqual([201, { extension: "hstore", version: wanted }])
      expect(yield* node.sql(version, database)).toEqual([[wanted, "public"]])
    }
    expect(yield* node.sql(version)).toEqual([])
    for (const [body, error] of [
      [
        { version: "1.4" },
        `Failed to execute query: ALTER EXTENSION "hstore" UPDATE TO "1.4": extension "hstore" has no update path`
      ],
      [
        { extension: "nope", version: "1" },
        `Failed to execute query: CREATE EXTENSION IF NOT EXISTS "nope" WITH SCHEMA public VERSION "1"`
      ],
      [{ extension: `x"; DROP TABLE t; --`, version: "1" }, "Failed to execute query: "],
      [{ database: "nope", version: "1" }, `Failed to connect to the database: database "nope" does not exist`]
    ] as const) {
      const reply = yield* install(body)
      expect(reply.status).toBe(500)
      expect(reply.json).toEqual({
        error: expect.stringContaining(`failed to install extension: ${error}`)
      })
    }
    // Two callers, none of whom finds it.
    yield* node.sql("DROP EXTENSION hstore", database)
    const both = yield* Effect.all([install({ version: "1.8" }), install({ version: "1.8" })], { concurrency: 2 })
    expect(both.map(({ status }) => status)).toEqual([201, 201])
    yield* node.stop
  })
)

it.live("S-137 a role gets the privileges on a schema that it has not, in its open session", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.run()
    yield* node.sql(`CREATE ROLE "test role" LOGIN; CREATE SCHEMA "test schema"; CREATE ROLE nobody_special`)
    const session = yield* as(node, "test role", "postgres")
    const create = `CREATE TABLE "test schema".t AS SELECT 42 AS answer`
    expect((yield* Effect.flip(session.query(create))).code).toBe("42501")
    const grant = (privileges: ReadonlyArray<string>, role = "test role") => {
      const body = { database: "postgres", schema: "test schema", role, privileges }
      return Effect.map(node.internal("POST /grants", { body }), (reply) => ({ ...reply, body }))
    }
    for (const privileges of [["CREATE", "USAGE"], ["USAGE"], [], ["USAGE", "USAGE"]]) {
      const reply = yield* grant(privileges)
      expect([reply.status, reply.json]).toEqual([201, reply.body])
    }
    yield* session.query(create)
    const [rows] = yield* session.query(`SELECT answer FROM "test schema".t`)
    expect(rows?.rows).toEqual([["42"]])
    // What is held already costs no statement: nothing is written.
    const before = yield* node.value("SELECT xmin FROM pg_namespace WHERE nspname = 'test schema'")
    expect((yield* grant(["CREATE"])).status).toBe(201)
    expect(yield* node.value("SELECT xmin FROM pg_namespace WHERE nspname = 'test schema'")).toBe(before)
    // A role that cannot log in is a role.
    expect((yield* grant(["USAGE"], "nobody_special")).status).toBe(201)
    expect((yield* grant(["USAGE"], "nobody_special")).status).toBe(201)
    for (const [privileges, role, error] of [
      [["SELECT"], "test role", "invalid privilege type SELECT for schema"],
      [["USAGE"], `nope"`, `role "nope"" does not exist`]
    ] as const) {
      const reply = yield* grant(privileges, role)
      expect([reply.status, reply.json]).toEqual([500, { error: expect.stringContaining(error) }])
      expect(reply.text).toContain("failed to grant role privileges to the schema: Failed to execute query: GRANT ")
    }
    expect(
      (yield* node.internal("POST /grants", { body: { ...(yield* grant([])).body, privileges: ["usage"] } })).status
    ).toBe(422)
    // Many at once on the same schema.
    const roles = Array.from({ length: 8 }, (_, index) => `many_${index}`)
    yield* node.sql(roles.map((role) => `CREATE ROLE ${role}`).join("; "))
    const replies = yield* Effect.forEach(roles, (role) => grant(["USAGE", "CREATE"], role), { concurrency: 8 })
    expect(replies.map(({ status }) => status)).toEqual(roles.map(() => 201))
    yield* node.stop
  })
)

it.live("S-136 S-137 a replica is asked for what it has already: nothing is written, and all is well", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const primary = yield* bed.run({ spec: { skip_pg_catalog_updates: false } })
    yield* primary.sql("CREATE ROLE r; GRANT USAGE ON SCHEMA public TO r; CREATE EXTENSION hstore VERSION '1.8'")
    yield* primary.stop
    const replica = yield* bed.run({ spec: { mode: "Replica" } })
    const grant = { database: "postgres", schema: "public", role: "r", privileges: ["USAGE"] }
    const extension = { database: "postgres", extension: "hstore", version: "1.8" }
    expect((yield* replica.internal("POST /grants", { body: grant })).status).toBe(201)
    expect((yield* replica.internal("POST /extensions", { body: extension })).status).toBe(201)
    for (const reply of [
      yield* replica.internal("POST /grants", { body: { ...grant, privileges: ["CREATE"] } }),
      yield* replica.internal("POST /extensions", { body: { ...extension, version: "1.7" } }),
      yield* replica.external("POST /check_writability")
    ]) {
      expect([reply.status, reply.json]).toEqual([500, { error: expect.stringContaining("read-only transaction") }])
    }
    yield* replica.stop
  })
)

it.live("a client that leaves does not stop an installation", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.run()
    const session = yield* node.session
    yield* session.query("BEGIN; LOCK TABLE pg_catalog.pg_extension IN SHARE MODE")
    const body = { extension: "hstore", database: "postgres", version: "1.8" }
    const waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    yield* Effect.raceFirst(
      node.internal("POST /extensions", { body }),
      Effect.suspend(() => session.query(waiting)).pipe(Effect.repeat({ until: ([set]) => set?.rows[0]?.[0] === "1" }))
    )
    yield* session.query("ROLLBACK")
    let found: string | null = null
    yield* eventually("it is installed", async () => {
      found = await Effect.runPromise(node.value("SELECT extversion FROM pg_extension WHERE extname = 'hstore'"))
      return found !== null
    })
    expect(found).toBe("1.8")
    yield* node.stop
  })
)

it.live("GET /insights is an object, empty without pg_stat_statements, with exact numbers", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.run({ conf: "shared_preload_libraries = 'pg_stat_statements'\n" })
    const none = yield* node.external("GET /insights")
    expect([none.status, none.json]).toEqual([200, { pg_stat_statements: [] }])
    expect(none.headers["content-type"]).toBe("application/json")
    yield* node.sql("CREATE EXTENSION pg_stat_statements SCHEMA public; CREATE ROLE user1 LOGIN")
    yield* Effect.scoped(Effect.flatMap(as(node, "user1", "postgres"), (session) => session.query("SELECT 'a', 1")))
    yield* node.sql("SELECT 'not this one'")
    const reply = yield* node.external("GET /insights")
    expect(reply.status).toBe(200)
    expect(reply.json).toEqual({
      pg_stat_statements: [expect.objectContaining({ query: "SELECT $1, $2", calls: 1 })]
    })
    const id = yield* node.value("SELECT queryid FROM pg_stat_statements WHERE query = 'SELECT $1, $2'")
    expect(reply.text).toContain(`"queryid":${id},`)
    yield* node.stop
  })
)

it.live("probes follow the life of Postgres, and need no token but for the original's", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.run()
    const ready = node.external("GET /readyz", { headers: {} })
    const reply = yield* ready
    expect([reply.status, reply.json]).toEqual([200, { status: "running" }])
    const health = yield* node.external("GET /healthz", { headers: {} })
    const row = { work: null, for_ms: expect.any(Number) }
    expect([health.status, health.json]).toEqual([
      200,
      { loops: ["status", "signals", "life", "worker"].map((name) => ({ ...row, name })) }
    ])
    const liveness = yield* node.external("GET /hadron_liveness_probe")
    expect([liveness.status, liveness.json]).toEqual([200, "ok"])
    expect((yield* node.external("GET /hadron_liveness_probe", { headers: {} })).status).toBe(400)
    // A Postgres that hangs: stopped processes answer nothing.
    const postmaster = yield* node.postmaster
    process.kill(postmaster, "SIGSTOP")
    yield* eventually("it is not ready", async () => (await Effect.runPromise(ready)).status === 503)
    expect((yield* node.external("GET /hadron_liveness_probe")).status).toBe(503)
    expect((yield* node.external("GET /healthz", { headers: {} })).status).toBe(200)
    process.kill(postmaster, "SIGCONT")
    yield* eventually("it is ready", async () => (await Effect.runPromise(ready)).status === 200)
    yield* node.stop
  })
)

it.live("GET /readyz is 503 once Postgres has ended by itself", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    // The last sync holds the process, so that it can be asked.
    const node = yield* bed.run({
      args: { "--enable-failpoints": "" },
      env: { FAILPOINTS: "terminate-before-sync=pause" }
    })
    process.kill(yield* node.postmaster, "SIGINT")
    const ready = node.external("GET /readyz", { headers: {} })
    yield* eventually("it is not ready", async () => (await Effect.runPromise(ready)).status === 503)
    yield* node.logged("syncing safekeepers on shutdown")
    expect((yield* ready).json).toEqual({ error: "not ready: Postgres has ended" })
    expect((yield* node.status).status).toBe("running")
    const health = yield* node.external("GET /healthz", { headers: {} })
    expect(health.json).toMatchObject({
      loops: expect.arrayContaining([expect.objectContaining({ name: "life", work: "end" })])
    })
    const off = { body: [{ name: "terminate-before-sync", actions: "off" }] }
    expect((yield* node.internal("POST /failpoints", off)).status).toBe(200)
    expect((yield* node.exit).code).toBe(0)
  })
)
