/** How a running node ends: asked over HTTP, by Postgres itself, or by what happened to Postgres. */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Lsn from "../../src/domain/Lsn.ts"
import { makeBed } from "../support/bed.ts"
import { type Compute, eventually, isAlive } from "../support/compute.ts"
import { agreeOn, failBasebackup, position, printPosition, retries, syncsAtEnd } from "../support/storage.ts"

/** Pid of a process of Postgres. */
const pidOf = (node: Compute, kind: string) =>
  Effect.map(node.value(`SELECT pid FROM pg_stat_activity WHERE backend_type = '${kind}'`), Number)

const kill = (pid: number, signal: NodeJS.Signals) => Effect.sync(() => void process.kill(pid, signal))

/** Ids of all System V segments of shared memory on this machine. */
const systemVSegments = async (): Promise<ReadonlyArray<string>> =>
  (await fs.readFile("/proc/sysvipc/shm", "utf8"))
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/u)[1] ?? "")

/** Id of the segment that marks a data directory as used. */
const sharedMemoryOf = async (pgdata: string): Promise<string | undefined> =>
  (await fs.readFile(join(pgdata, "postmaster.pid"), "utf8")).split("\n")[6]?.trim().split(/\s+/u)[1]

/** Where in the log of a node texts stand; -1 for one that is not there. */
const places = (node: Compute, ...texts: ReadonlyArray<string>) => texts.map((text) => node.stderr().indexOf(text))

const inOrder = (numbers: ReadonlyArray<number>): boolean =>
  numbers.every((number, index) => number >= 0 && number >= (numbers[index - 1] ?? 0))

describe("/terminate", () => {
  it.live("S-178 stops Postgres with a checkpoint, syncs, answers with the position, and the process ends with 0", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      yield* node.sql("CREATE TABLE t AS SELECT 1")
      const answer = yield* node.terminate("immediate")
      const answered = performance.now()
      const runs = syncsAtEnd(bed)
      expect(runs).toHaveLength(1)
      expect([answer.status, answer.json]).toEqual([200, { lsn: runs[0]?.stdout }])
      expect((yield* node.exit).code).toBe(0)
      expect(performance.now() - answered).toBeLessThan(1500)
      const steps = places(
        node,
        "Changing compute status from running to termination-pending-immediate",
        "received fast shutdown request",
        "checkpoint complete",
        "database system is shut down",
        "syncing safekeepers on shutdown",
        "Changing compute status from termination-pending-immediate to terminated"
      )
      expect(steps).toSatisfy(inOrder)
    })
  )

  it.live("S-181 returns a position that covers every commit", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      yield* node.sql("CREATE TABLE t AS SELECT generate_series(1, 1000)")
      const flushed = Lsn.parse((yield* node.value("SELECT pg_current_wal_flush_lsn()")) ?? "")
      const returned = Lsn.parse((yield* node.stop) ?? "")
      expect(returned).toBeGreaterThanOrEqual(flushed ?? Lsn.zero)
      expect(returned).toBe(yield* position(bed))
    })
  )

  it.live("S-181 returns null for a replica, and nothing is synced", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run({ spec: { mode: "Replica" } })
      expect(yield* node.stop).toBeNull()
      expect(syncsAtEnd(bed)).toEqual([])
    })
  )

  it.live("S-183 refuses another mode, and a query without one; the node goes on", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      for (const query of ["?mode=later", "?mode=", "?force=true"]) {
        const answer = yield* node.external(`POST /terminate${query}`)
        expect([answer.status, answer.json], query).toEqual([400, { error: expect.any(String) }])
      }
      expect(yield* node.status).toMatchObject({ status: "running", error: null })
      yield* node.stop
    })
  )

  it.live("gives all callers one outcome, and one that leaves takes nothing along", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      bed.storage.stub.faults.add({ at: "sync", do: "delay", millis: 500 })
      const gone = yield* Effect.forkScoped(node.terminate("immediate"))
      yield* eventually("the sync runs", () => syncsAtEnd(bed).length > 0)
      const callers = yield* Effect.forEach(["immediate", "fast", undefined, "immediate"] as const, (mode) =>
        Effect.forkScoped(node.terminate(mode))
      )
      yield* Fiber.interrupt(gone)
      expect(yield* node.status).toMatchObject({ status: "termination_pending_immediate" })
      const answers = yield* Effect.forEach(callers, (caller) => Fiber.join(caller))
      const lsn = syncsAtEnd(bed)[0]?.stdout
      expect(answers.map(({ status, json }) => ({ status, json }))).toEqual(
        callers.map(() => ({ status: 200, json: { lsn } }))
      )
      expect((yield* node.exit).code).toBe(0)
      expect(syncsAtEnd(bed)).toHaveLength(1)
    })
  )

  it.live("closes sessions that are at work", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const session = yield* node.session
      const query = yield* Effect.forkScoped(Effect.flip(session.query("SELECT pg_sleep(100)")))
      const busy = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'"
      yield* Effect.suspend(() => node.value(busy)).pipe(Effect.repeat({ until: (count) => count === "1" }))
      yield* node.stop
      expect(yield* Fiber.join(query)).toMatchObject({ code: "57P01" })
    })
  )
})

describe("data", () => {
  it.live("S-186 survive stop and start, again and again", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const first = yield* bed.run()
      yield* first.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
      yield* first.stop
      for (let round = 0; round < 3; round++) {
        const node = yield* bed.run()
        expect(yield* node.value("SELECT sum(n) FROM t")).toBe("500500")
        yield* node.stop
      }
    })
  )

  it.live("S-187 are those of the storage, whatever the old files say", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const first = yield* bed.run()
      yield* first.sql("CREATE TABLE t AS SELECT 'older' AS state")
      yield* first.stop
      const older = yield* position(bed)
      const second = yield* bed.run()
      yield* second.sql("UPDATE t SET state = 'newer'")
      yield* second.stop
      agreeOn(bed, older)
      const third = yield* bed.run()
      expect(yield* third.value("SELECT state FROM t")).toBe("older")
      yield* third.stop
    })
  )
})

describe("Postgres that ends by itself", () => {
  it.live("S-184 stopped from outside: safekeepers are synced, the process ends with Postgres' code", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      bed.storage.stub.faults.add({ at: "sync", do: "delay", millis: 300 })
      yield* kill(yield* node.postmaster, "SIGINT")
      yield* eventually("the sync runs", () => syncsAtEnd(bed).length > 0)
      expect(yield* node.status).toMatchObject({
        status: "running",
        error: "Postgres exited with code exit status: 0, shutting down"
      })
      expect((yield* node.exit).code).toBe(0)
      expect(syncsAtEnd(bed)).toMatchObject([{ code: 0 }])
      expect(node.stderr()).not.toContain("terminated")
    })
  )

  it.live("a backend that was killed takes Postgres down, and the process ends with its code", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      printPosition(bed)
      yield* kill(yield* pidOf(node, "background writer"), "SIGKILL")
      expect((yield* node.exit).code).toBe(1)
      expect(node.stderr()).toContain("Postgres exited with code exit status: 1, shutting down")
      expect(syncsAtEnd(bed)).toHaveLength(1)
    })
  )

  it.live("P2 a killed postmaster: nothing is synced before its last child is gone; exit code 1", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const seen = yield* bed.writable("seen")
      const pgbin = yield* bed.wrapper(`if [ "$1" = --sync-safekeepers ]; then
  for process in /proc/[0-9]*; do
    if [ "$(readlink "$process/cwd")" = "$PGDATA" ]; then echo "$process"; fi
  done >"${seen}/alive"
fi
exec "$stub" "$@"`)
      const node = yield* bed.run({ args: { "--pgbin": pgbin } })
      printPosition(bed)
      const stuck = yield* pidOf(node, "checkpointer")
      const segment = yield* Effect.promise(() => sharedMemoryOf(node.pgdata))
      expect(yield* Effect.promise(systemVSegments)).toContain(segment)
      yield* kill(stuck, "SIGSTOP")
      yield* kill(yield* node.postmaster, "SIGKILL")
      expect((yield* node.exit).code).toBe(1)
      expect(isAlive(stuck)).toBe(false)
      expect(yield* Effect.promise(() => fs.readFile(join(seen, "alive"), "utf8"))).toBe("")
      expect(node.stderr()).toContain("Postgres exited with code signal: SIGKILL, shutting down")
      expect(yield* Effect.promise(systemVSegments)).not.toContain(segment)
    })
  )
})

describe("a failed start", () => {
  it.live("is ended by /terminate, with a null LSN where Postgres never ran", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      failBasebackup(bed)
      const node = yield* bed.start({ env: retries(0) })
      yield* node.waitFor("failed")
      const began = performance.now()
      const answer = yield* node.terminate("immediate")
      expect([answer.status, answer.json]).toEqual([200, { lsn: null }])
      expect((yield* node.exit).code).toBe(0)
      expect(performance.now() - began).toBeLessThan(3000)
      expect(syncsAtEnd(bed)).toEqual([])
    })
  )

  it.live("with a Postgres that died is synced at its end", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const pgbin = yield* bed.wrapper('if [ "$1" = -D ]; then exit 7; fi; exec "$stub" "$@"')
      const node = yield* bed.start({ args: { "--pgbin": pgbin } })
      expect((yield* node.waitFor("failed")).error).toBe("Postgres exited unexpectedly with code 7")
      yield* eventually("the safekeepers are synced", () => node.stderr().includes("synced safekeepers lsn="))
      const answer = yield* node.terminate("immediate")
      expect([answer.status, answer.json]).toEqual([200, { lsn: expect.stringMatching(/^0\/[0-9A-F]+$/u) }])
      expect((yield* node.exit).code).toBe(7)
    })
  )

  for (const source of ["configFile", "controlPlane"] as const) {
    it.live(`C4 is started again by a refresh, on what the ${source} says now`, () =>
      Effect.gen(function* () {
        const bed = yield* makeBed()
        const { requests } = bed.storage.controlPlane
        const options = { source, env: retries(0) }
        const broken = { pageserver_connection_info: undefined, pageserver_connstring: "postgresql://127.0.0.1:1" }
        const node = yield* bed.start({ ...options, spec: broken })
        yield* node.waitFor("failed")
        yield* bed.publish({ ...options, conf: "search.refreshed = 'yes'" })
        expect((yield* node.internal("POST /refresh_configuration")).status).toBe(200)
        yield* eventually("the refresh has begun", () => node.stderr().includes("to refresh-configuration\n"))
        yield* eventually("the start has begun", () => node.stderr().includes("from refresh-configuration to init"))
        const status = yield* node.waitFor("running")
        expect(status).toMatchObject({ error: null })
        expect(yield* node.value("SHOW search.refreshed")).toBe("yes")
        expect(requests.all()).toHaveLength(source === "controlPlane" ? 2 : 0)
        yield* node.stop
      })
    )
  }

  it.live("is started again by a refresh that was asked for while it still started", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      bed.storage.pageserver.faults.add({ at: "command", do: "delay", millis: 200 })
      failBasebackup(bed)
      const node = yield* bed.start({ env: retries(0) })
      yield* bed.storage.pageserver.commands.until(() => true)
      expect((yield* node.internal("POST /refresh_configuration")).status).toBe(200)
      yield* node.logged("compute start finished")
      expect(node.stderr()).toContain("Changing compute status from init to failed")
      yield* node.stop
    })
  )

  it.live("C14 ends with 1 when a refresh learns that the node is detached", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      failBasebackup(bed)
      const node = yield* bed.start({ source: "controlPlane", env: retries(0) })
      yield* node.waitFor("failed")
      bed.storage.controlPlane.remove(bed.computeId())
      yield* node.internal("POST /refresh_configuration")
      yield* node.logged("from refresh-configuration-pending to failed")
      expect((yield* node.status).error).toContain("404 Not Found")
      bed.storage.controlPlane.empty(bed.computeId(), [])
      const began = performance.now()
      yield* node.internal("POST /refresh_configuration")
      expect((yield* node.exit).code).toBe(1)
      expect(performance.now() - began).toBeLessThan(3000)
    })
  )

  it.live("stays readable when a refresh of it fails, with the new reason; the next one may succeed", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      failBasebackup(bed)
      const node = yield* bed.start({ env: retries(0) })
      yield* node.waitFor("failed")
      yield* bed.publish({ document: () => "{" })
      expect((yield* node.internal("POST /refresh_configuration")).status).toBe(200)
      yield* node.logged("from refresh-configuration-pending to failed")
      expect(yield* node.status).toMatchObject({
        status: "failed",
        error: expect.stringContaining("could not parse config file")
      })
      yield* bed.publish({})
      expect((yield* node.internal("POST /refresh_configuration")).status).toBe(200)
      yield* node.logged("compute start finished")
      yield* node.stop
    })
  )
})
