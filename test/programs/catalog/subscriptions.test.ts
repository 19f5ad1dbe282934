/** Logical replication between real servers: subscriptions that are dropped, and those that stay. */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { identifier } from "../../../src/domain/catalog/quoting.ts"
import { migrate } from "../../../src/programs/catalog/migrate.ts"
import { type Cluster, major } from "../../support/postgres.ts"
import { databases, deleteDatabases, deleted, owned } from "./documents.ts"
import { makeServer, quiet, Server } from "./server.ts"

/** Asks until the answer is right. */
const until = (what: string, answer: ReturnType<Cluster["column"]>, wanted: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    while (JSON.stringify(yield* answer) !== JSON.stringify(wanted)) yield* Effect.sleep("20 millis")
  }).pipe(
    Effect.timeoutOrElse({
      duration: "40 seconds",
      orElse: () => Effect.flatMap(answer, (found) => Effect.die(new Error(`${what}: ${found}, not ${wanted}`)))
    })
  )

const rowsOf = ({ column }: Pick<Cluster, "column">, database: string) =>
  column("SELECT x FROM public.t ORDER BY x", database)

/** A table with a row, published, and a slot for a subscriber. */
const publish = ({ sql }: Pick<Cluster, "sql">, database: string, slot: string) =>
  Effect.gen(function* () {
    yield* sql("CREATE TABLE public.t (x int PRIMARY KEY); INSERT INTO public.t VALUES (1)", database)
    yield* sql("CREATE PUBLICATION p FOR TABLE public.t", database)
    yield* sql(`SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`, database)
  })

/** A subscription that has taken over the row. */
const subscribe = (
  subscriber: Pick<Cluster, "sql" | "column">,
  database: string,
  slot: string,
  publisher: Pick<Cluster, "directory">,
  published: string
) =>
  Effect.gen(function* () {
    const connection = `host=${publisher.directory} dbname=${published} user=cloud_admin`
    yield* subscriber.sql("CREATE TABLE IF NOT EXISTS public.t (x int PRIMARY KEY)", database)
    yield* subscriber.sql(
      `CREATE SUBSCRIPTION ${slot} CONNECTION '${connection}' PUBLICATION p WITH (create_slot = false, slot_name = '${slot}')`,
      database
    )
    yield* until("the subscriber", rowsOf(subscriber, database), ["1"])
    // A server that is stopped before has lost the slot of the first copy, and never gets beyond it.
    yield* until("the table", subscriber.column("SELECT srsubstate FROM pg_subscription_rel", database), ["r"])
  })

layer(Server.withNeon, { excludeTestServices: true, timeout: 60_000 })("subscriptions", (it) => {
  it.effect("S-104 a database that holds an active subscription is dropped, its publisher is reachable", () =>
    Effect.gen(function* () {
      const server = yield* Server.wiped
      const { apply, column, sql } = server
      yield* apply(owned(["publisher_db", "subscriber_db"]))
      yield* publish(server, "publisher_db", "mysub")
      yield* subscribe(server, "subscriber_db", "mysub", server, "publisher_db")
      const { counts } = yield* apply({ deltas: deleteDatabases(["subscriber_db"]) })
      assert.deepStrictEqual(counts, { drop_subscriptions: 1, drop_database: 1 })
      assert.deepStrictEqual(yield* column(databases), ["publisher_db"])
      assert.deepStrictEqual(yield* rowsOf(server, "publisher_db"), ["1"])
      assert.deepStrictEqual(yield* column("SELECT slot_name FROM pg_replication_slots"), ["mysub"])
      yield* until("the slot", column("SELECT active FROM pg_replication_slots"), ["f"])
      yield* sql("SELECT pg_drop_replication_slot('mysub')")
    })
  )

  it.effect("a database with subscriptions is dropped, also a template that refuses connections", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server.wiped
      const name = "';subscriber_db $$ $x$ $;"
      yield* apply(owned([name]))
      yield* sql("CREATE SUBSCRIPTION mysub CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)", name)
      yield* sql(`ALTER DATABASE ${identifier(name)} IS_TEMPLATE true`)
      yield* sql(`ALTER DATABASE ${identifier(name)} ALLOW_CONNECTIONS false`)
      const { counts } = yield* apply(deleted([name]))
      assert.deepStrictEqual(counts, {
        allow_connections: 1,
        drop_subscriptions: 1,
        untemplate_database: 1,
        drop_database: 1,
        drop_role: 1
      })
      assert.deepStrictEqual(yield* column(databases), [])
    })
  )

  it.effect("inherited subscriptions are dropped once for each timeline", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server.wiped
      const subscribe = "CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)"
      const document = { ...owned(["app"]), more: { drop_subscriptions_before_start: true } }
      const count = column("SELECT count(*) FROM pg_subscription")
      yield* apply(owned(["app"]))
      yield* sql(subscribe, "app")
      yield* apply(document)
      assert.deepStrictEqual(yield* count, ["0"])
      yield* sql(subscribe, "app")
      assert.deepStrictEqual((yield* apply(document)).results, [], "what users created since stays")
      const child = "f".repeat(32)
      yield* apply({ ...document, timelineId: child })
      assert.deepStrictEqual(yield* count, ["0"])
      assert.deepStrictEqual(yield* column("SELECT timeline_id FROM neon.drop_subscriptions_done"), [child])
    })
  )

  it.effect("S-114 the flag without subscriptions changes nothing else", () =>
    Effect.gen(function* () {
      const { apply, column } = yield* Server.wiped
      const document = { ...owned(["app"]), more: { drop_subscriptions_before_start: true } }
      const { counts, failures } = yield* apply(document)
      assert.deepStrictEqual(failures, [])
      assert.isUndefined(counts["drop_subscriptions"])
      assert.deepStrictEqual(yield* column("SELECT id || timeline_id FROM neon.drop_subscriptions_done"), [
        `1${"0123456789abcdef".repeat(2)}`
      ])
      assert.deepStrictEqual((yield* apply(document)).results, [])
    })
  )
})

describe("branches", () => {
  it.live("S-113 S-115 a branch starts without its parent's subscriptions, and keeps those that are made on it", () =>
    Effect.gen(function* () {
      const publisher = yield* makeServer({ neon: false })
      yield* publish(publisher, "postgres", "sub")
      const parent = yield* makeServer({ neon: true })
      yield* parent.apply(owned(["neondb"]))
      yield* subscribe(parent, "neondb", "sub", publisher, "postgres")
      yield* parent.kill("SIGINT")

      const child = yield* makeServer({ neon: true, from: parent.pgdata })
      const document = { ...owned(["neondb"]), timelineId: "f".repeat(32) }
      const dropping = { ...document, more: { drop_subscriptions_before_start: true } }
      assert.deepStrictEqual((yield* child.apply(dropping)).counts["drop_subscriptions"], 1)
      const subscriptions = child.column("SELECT subname FROM pg_subscription")
      assert.deepStrictEqual(yield* subscriptions, [])
      assert.deepStrictEqual(yield* child.column("SELECT id || timeline_id FROM neon.drop_subscriptions_done"), [
        `1${document.timelineId}`
      ])
      yield* publisher.sql("INSERT INTO public.t VALUES (2)")
      const slots = publisher.column("SELECT slot_name FROM pg_replication_slots ORDER BY 1")
      assert.deepStrictEqual(yield* slots, ["sub"])

      yield* publisher.sql("SELECT pg_create_logical_replication_slot('sub_new', 'pgoutput')")
      assert.deepStrictEqual(yield* rowsOf(child, "neondb"), ["1"])
      yield* child.sql("TRUNCATE public.t", "neondb")
      yield* publisher.sql("DELETE FROM public.t WHERE x = 2")
      yield* subscribe(child, "neondb", "sub_new", publisher, "postgres")
      for (const [value, next] of [
        ["3", dropping],
        ["4", document]
      ] as const) {
        yield* child.restart
        yield* child.apply(next)
        assert.deepStrictEqual(yield* subscriptions, ["sub_new"])
        yield* publisher.sql(`INSERT INTO public.t VALUES (${value})`)
        yield* until("what follows", child.column(`SELECT x FROM public.t WHERE x = ${value}`, "neondb"), [value])
      }
    }).pipe(Effect.provide(quiet))
  )

  it.live("S-118 a member of the privileged role can administer", () =>
    Effect.gen(function* () {
      const [one, two] = yield* Effect.all([makeServer({ neon: true }), makeServer({ neon: true })])
      const me = "mr_whiskers"
      yield* one.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE model PASSWORD 'secret'")
      const [made] = yield* one.column("SELECT rolpassword FROM pg_authid WHERE rolname = 'model'")
      for (const server of [one, two]) {
        yield* server.apply({
          roles: [{ name: me, encrypted_password: made }],
          databases: [{ name: "neondb", owner: me }]
        })
        yield* server.provide(migrate("neon_superuser"))
      }
      const memberships = ["member", "usage", ...(major < 16 ? [] : ["set"])]
      const asks = memberships.map((kind) => `pg_has_role('${me}', 'neon_superuser', '${kind}')`).join(" AND ")
      assert.deepStrictEqual(yield* one.column(`SELECT ${asks}`, "neondb", me), ["t"])
      yield* one.sql("CREATE ROLE mine LOGIN CREATEROLE CREATEDB", "neondb", me)
      yield* one.sql("CREATE DATABASE theirs", "neondb", me)
      yield* one.sql("CREATE TABLE public.t (x int PRIMARY KEY); INSERT INTO public.t VALUES (10), (20)", "neondb", me)
      // A publication for all tables, and subscriptions before 16, are for superusers on an unpatched server.
      yield* one.sql("CREATE PUBLICATION p FOR TABLE public.t", "neondb", me)
      yield* two.sql("CREATE TABLE public.t (x int PRIMARY KEY)", "neondb", me)
      const access = join(one.pgdata, "pg_hba.conf")
      yield* Effect.promise(async () => {
        await fs.writeFile(access, `local all ${me} scram-sha-256\n${await fs.readFile(access, "utf8")}`)
      })
      yield* one.sql("SELECT pg_reload_conf()")
      yield* two.sql(
        `CREATE SUBSCRIPTION s CONNECTION 'host=${one.directory} dbname=neondb user=${me} password=secret' PUBLICATION p`,
        "neondb",
        major < 16 ? "cloud_admin" : me
      )
      yield* one.sql("INSERT INTO public.t VALUES (30), (40)", "neondb")
      yield* until("the other side", rowsOf(two, "neondb"), ["10", "20", "30", "40"])
      yield* two.sql("DROP SUBSCRIPTION s", "neondb", major < 16 ? "cloud_admin" : me)
    }).pipe(Effect.provide(quiet))
  )
})
