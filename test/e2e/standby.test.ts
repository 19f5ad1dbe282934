/** Replicas: a standby that follows the primary by streaming replication, as stock Postgres does it. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { makeBed } from "../support/bed.ts"

it.live("S-167 a hot standby catches up with the primary, reads, and does not write", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const primary = yield* bed.run({ name: "primary", conf: "wal_keep_size = 64MB" })
    yield* primary.sql("CREATE TABLE test AS SELECT generate_series(1, 1000) AS n")
    const replica = yield* bed.run({
      name: "replica",
      spec: { mode: "Replica" },
      conf: `primary_conninfo = 'host=127.0.0.1 port=${primary.port} user=cloud_admin'`
    })
    expect(yield* replica.status).toMatchObject({ tenant: bed.storage.tenantId, timeline: bed.storage.timelineId })
    const flushed = yield* primary.value("SELECT pg_current_wal_flush_lsn()")
    const behind = `SELECT coalesce(pg_last_wal_replay_lsn(), '0/0') < '${flushed}'::pg_lsn`
    yield* Effect.suspend(() => replica.value(behind)).pipe(
      Effect.repeat({ until: (waiting) => waiting === "f" }),
      Effect.timeout("20 seconds")
    )
    expect(yield* replica.sql("SELECT count(*), sum(n) FROM test")).toEqual([["1000", "500500"]])
    expect(yield* replica.value("SELECT pg_is_in_recovery()")).toBe("t")
    expect(yield* replica.value("SHOW neon.compute_mode")).toBe("replica")
    expect(yield* replica.value("SHOW hot_standby")).toBe("on")
    expect(yield* replica.file("standby.signal")).toBe("")
    yield* primary.sql("INSERT INTO test VALUES (1001)")
    yield* Effect.suspend(() => replica.value("SELECT max(n) FROM test")).pipe(
      Effect.repeat({ until: (max) => max === "1001" }),
      Effect.timeout("20 seconds")
    )
    const refused = yield* Effect.exit(replica.sql("INSERT INTO test VALUES (0)"))
    expect(String(refused)).toContain("read-only transaction")
    expect(replica.stderr()).not.toMatch(/corrupt|PANIC|unexpected pageaddr/u)
    expect(yield* replica.stop).toBeNull()
    expect(yield* primary.stop).not.toBeNull()
  })
)
