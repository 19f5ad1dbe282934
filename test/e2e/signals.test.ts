/** P1: signals ask for the end as `/terminate?mode=immediate` does, at any time; each further one takes the next step. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { makeBed } from "../support/bed.ts"
import { type Compute, eventually, isAlive } from "../support/compute.ts"
import { failBasebackup, knowNothing, printPosition, retries, syncsAtEnd } from "../support/storage.ts"

/** Stops a process of Postgres, so that a fast shutdown does not get to its end. */
const freezeCheckpointer = Effect.fnUntraced(function* (node: Compute) {
  const pid = Number(yield* node.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"))
  process.kill(pid, "SIGSTOP")
  return pid
})

describe("signals", () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it.live(`S-185 ${signal} stops Postgres fast, syncs, and the process ends with Postgres' code`, () =>
      Effect.gen(function* () {
        const bed = yield* makeBed()
        const node = yield* bed.run()
        yield* node.sql("CREATE TABLE kept AS SELECT 42 AS n")
        yield* node.signal(signal)
        expect((yield* node.exit).code).toBe(0)
        expect(syncsAtEnd(bed)).toMatchObject([{ code: 0 }])
        expect(node.stderr()).toContain("received fast shutdown request")
        expect(node.stderr()).toContain("Changing compute status from running to termination-pending-immediate")
        const again = yield* bed.run()
        expect(yield* again.value("SELECT n FROM kept")).toBe("42")
        yield* again.stop
      })
    )
  }

  it.live("SIGQUIT stops Postgres without a checkpoint", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      printPosition(bed)
      yield* node.signal("SIGQUIT")
      expect((yield* node.exit).code).toBe(0)
      expect(node.stderr()).toContain("received immediate shutdown request")
      expect(node.stderr()).not.toContain("received fast shutdown request")
      expect(syncsAtEnd(bed)).toHaveLength(1)
    })
  )

  it.live("a second signal turns a fast shutdown into an immediate one", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      printPosition(bed)
      const frozen = yield* freezeCheckpointer(node)
      yield* node.signal("SIGTERM")
      yield* node.logged("received fast shutdown request")
      yield* node.signal("SIGTERM")
      yield* node.logged("received immediate shutdown request")
      yield* node.exit
      expect(isAlive(frozen)).toBe(false)
      expect(syncsAtEnd(bed)).toHaveLength(1)
    })
  )

  it.live("a third signal kills Postgres, children too, before anything is synced", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      printPosition(bed)
      const frozen = yield* freezeCheckpointer(node)
      const postmaster = yield* node.postmaster
      yield* node.signal("SIGTERM")
      yield* node.logged("received fast shutdown request")
      yield* node.signal("SIGINT")
      yield* node.logged("received immediate shutdown request")
      yield* node.signal("SIGTERM")
      yield* eventually("the postmaster is gone", () => !isAlive(postmaster), "2 seconds")
      expect((yield* node.exit).code).toBe(1)
      expect(isAlive(frozen)).toBe(false)
      const log = node.stderr()
      expect(log.indexOf("syncing safekeepers")).toBeGreaterThan(log.indexOf("killing what process"))
    })
  )

  it.live("SIGTERM right after the answer to /terminate changes nothing", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const answer = yield* node.terminate("immediate")
      yield* node.signal("SIGTERM")
      expect(answer.status).toBe(200)
      expect((yield* node.exit).code).toBe(0)
    })
  )

  it.live("a signal ends the lingering after /terminate", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      expect((yield* node.terminate("fast")).status).toBe(200)
      expect(yield* node.status).toMatchObject({ status: "terminated" })
      yield* node.signal("SIGTERM")
      const began = performance.now()
      expect((yield* node.exit).code).toBe(0)
      expect(performance.now() - began).toBeLessThan(2000)
    })
  )

  it.live("a signal ends a node whose start has failed", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      failBasebackup(bed)
      const node = yield* bed.start({ env: retries(0) })
      yield* node.waitFor("failed")
      yield* node.signal("SIGTERM")
      const began = performance.now()
      yield* node.exit
      expect(performance.now() - began).toBeLessThan(2000)
    })
  )

  it.live("SIGHUP, SIGUSR1 and SIGUSR2 change nothing", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      for (const signal of ["SIGUSR1", "SIGUSR2", "SIGHUP"] as const) yield* node.signal(signal)
      yield* node.logged("received SIGUSR2: ignored")
      yield* node.logged("received SIGHUP: ignored")
      expect(yield* node.status).toMatchObject({ status: "running" })
      yield* node.stop
    })
  )
})

describe("a start that is interrupted", () => {
  it.live("S-182 C7 by /terminate while the base backup hangs: the node ends, nothing is left", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      bed.storage.pageserver.faults.add({ at: "command", do: "hang", times: "forever" })
      const node = yield* bed.start()
      yield* bed.storage.pageserver.commands.until(() => true)
      expect(yield* node.status).toMatchObject({ status: "init" })
      const answer = yield* node.terminate("immediate")
      expect([answer.status, answer.json]).toEqual([200, { lsn: null }])
      expect((yield* node.exit).code).toBe(0)
      yield* eventually("the pageserver has seen the end", () =>
        bed.storage.pageserver.sessions.all().every(({ outcome }) => outcome !== "open")
      )
    })
  )

  it.live("by SIGTERM while the safekeepers are synced: the sync process is ended", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      knowNothing(bed)
      bed.storage.stub.faults.add({ at: "sync", do: "hang", times: "forever" })
      const node = yield* bed.start()
      const { pid } = yield* bed.storage.stub.runs.until(() => true)
      yield* node.signal("SIGTERM")
      expect((yield* node.exit).code).toBe(0)
      expect(isAlive(pid)).toBe(false)
    })
  )

  it.live("by SIGTERM while Postgres does not become ready: Postgres is ended, the safekeepers are synced", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const pgbin = yield* bed.wrapper('[ "$1" = -D ] && echo sleeping >&2 && exec sleep 100; exec "$stub" "$@"')
      const node = yield* bed.start({ args: { "--pgbin": pgbin } })
      yield* node.logged("PG:sleeping")
      yield* node.signal("SIGTERM")
      expect((yield* node.exit).code).toBe(1) // ended by a signal
      expect(node.stderr()).toContain("synced safekeepers lsn=")
    })
  )
})
