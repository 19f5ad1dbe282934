/** Which base backup is asked for, with what token, and what comes of a pageserver that fails. */
import { execFile } from "node:child_process"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import { TenantId } from "../../src/domain/Identifiers.ts"
import * as Lsn from "../../src/domain/Lsn.ts"
import { makeBed, type StartOptions } from "../support/bed.ts"
import { eventually } from "../support/compute.ts"
import { imageSize } from "../support/image.ts"
import { commands, knowNothing, position, retries } from "../support/storage.ts"

describe("the base backup", () => {
  it.live("S-035 is asked for by mode", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { tenantId, timelineId } = bed.storage
      const lsn = Lsn.format(yield* position(bed))
      const key = `${tenantId} ${timelineId}`
      for (const [mode, name, command] of [
        ["Primary", "primary", `basebackup ${key} ${lsn} --gzip`],
        ["Replica", "replica", `basebackup ${key} --gzip --replica`],
        [{ Static: lsn }, "static", `basebackup ${key} ${lsn} --gzip --replica`]
      ] as const) {
        bed.storage.pageserver.commands.clear()
        const node = yield* bed.run({ spec: { mode } })
        expect(commands(bed)).toMatchObject([
          {
            text: command,
            session: {
              parameters: { application_name: "compute_ctl", options: `-c neon.compute_mode=${name}` }
            }
          }
        ])
        expect(yield* node.value("SHOW neon.compute_mode")).toBe(name)
        expect(yield* node.value("SELECT pg_is_in_recovery()")).toBe(name === "primary" ? "f" : "t")
        yield* node.stop
      }
    })
  )

  it.live("S-037 the storage token is the password everywhere, and NEON_AUTH_TOKEN of both Postgres processes", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { keys, pageserver, safekeepers, tenantId } = bed.storage
      const token = Redacted.value(yield* keys.storageToken(tenantId))
      const seen = yield* bed.writable("seen")
      knowNothing(bed)
      const pgbin = yield* bed.wrapper(`printf '%s' "$NEON_AUTH_TOKEN" >"${seen}/$#"; exec "$stub" "$@"`)
      const options: StartOptions = {
        spec: {
          pageserver_connection_info: undefined,
          pageserver_connstring: `postgresql://no_user:other@${pageserver.address}`,
          storage_auth_token: token
        },
        args: { "--pgbin": pgbin }
      }
      const node = yield* bed.run(options)
      yield* node.sql("CREATE TABLE kept AS SELECT 42 AS n")
      const sessions = [pageserver, ...safekeepers].flatMap((server) => server.sessions.all())
      expect(new Set(sessions.map(({ password }) => password))).toEqual(new Set([token]))
      // `--sync-safekeepers` is one argument, `-D PGDATA` are two.
      for (const name of ["1", "2"]) {
        expect(yield* Effect.promise(() => fs.readFile(join(seen, name), "utf8")), name).toBe(token)
      }
      expect(node.stderr()).not.toContain(token)
      yield* node.stop
      const again = yield* bed.run(options)
      expect(yield* again.value("SELECT n FROM kept")).toBe("42")
      yield* again.stop
    })
  )

  it.live("S-045 of a sharded tenant comes from shard 0, and Postgres gets all addresses after the stripe size", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed({ pageservers: 2 })
      const [first, second] = bed.storage.pageservers
      const node = yield* bed.run({
        spec: {
          pageserver_connection_info: {
            shard_count: 2,
            stripe_size: 2048,
            prefer_protocol: "libpq",
            shards: {
              "0002": { pageservers: [{ id: 1, libpq_url: first.url }] },
              "0102": { pageservers: [{ id: 2, libpq_url: second?.url }] }
            }
          }
        }
      })
      const conf = yield* node.file("postgresql.conf")
      const stripe = conf.indexOf("neon.stripe_size=2048\n")
      const addresses = conf.indexOf(`neon.pageserver_connstring='${first.url},${second?.url}'\n`)
      expect(stripe).toBeGreaterThan(0)
      expect(addresses).toBeGreaterThan(stripe)
      expect(first.commands.all()).toHaveLength(1)
      expect(second?.sessions.all()).toEqual([])
      yield* node.stop
    })
  )

  it.live("S-046 a shard without libpq address leaves the addresses out of postgresql.conf", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { url } = bed.storage.pageserver
      const info = { shard_count: 2, stripe_size: 2048, prefer_protocol: "libpq" }
      const node = yield* bed.run({
        spec: {
          pageserver_connection_info: {
            ...info,
            shards: {
              "0002": { pageservers: [{ id: 1, libpq_url: url }] },
              "0102": { pageservers: [{ id: 2, grpc_url: "grpc://127.0.0.1:1" }] }
            }
          }
        }
      })
      const conf = yield* node.file("postgresql.conf")
      expect(conf).not.toMatch(/^neon\.pageserver_connstring/mu)
      expect(conf).toContain("# no neon.pageserver_connstring\n")
      yield* node.stop

      const missing = yield* bed.failure({
        spec: {
          pageserver_connection_info: { ...info, shards: { "0002": { pageservers: [{ id: 1, libpq_url: url }] } } }
        }
      })
      expect(missing).toBe("shard 0102 missing from pageserver_connection_info shard map")

      const legacy = yield* bed.start({
        spec: { pageserver_connection_info: undefined, pageserver_connstring: `${url},${url}` }
      })
      expect((yield* legacy.exit).code).toBe(1)
      expect(legacy.stderr()).toContain("2 shards but no stripe_size")
    })
  )
})

describe("a pageserver that fails", () => {
  it.live("S-039 is asked as often as the variable says, and its words are in the error", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      bed.storage.pageserver.faults.add({
        at: "command",
        do: "error",
        message: "Not found: Timeline was not found",
        times: "forever"
      })
      const error = yield* bed.failure({ env: retries(2) })
      expect(commands(bed)).toHaveLength(3)
      expect(error).toMatch(/^failed to get basebackup@[0-9A-F]+\/[0-9A-F]+\n\nCaused by:\n {4}.*Not found: Timeline/u)
      // A terminate after a failed start is a wanted end.
      expect(bed.storage.stub.runs.all()).toEqual([])
    })
  )

  for (const [what, fault] of [
    ["refuses connections for a while", { at: "accept", do: "reset" }],
    ["hangs up after the command", { at: "command", do: "close" }],
    ["cuts the stream", { at: "payload", do: "reset", afterBytes: 300_000 }],
    ["ends too early as if all were well", { at: "payload", do: "truncate", afterBytes: 300_000 }],
    ["sends garbage in the middle", { at: "payload", do: "garbage", afterBytes: 300_000 }],
    ["reports an error in the middle", { at: "payload", do: "error", message: "boom", afterBytes: 300_000 }],
    ["reports an error after the whole archive", { at: "tail", do: "error", message: "boom" }],
    ["leaves after the whole archive", { at: "end", do: "close" }]
  ] as const) {
    it.live(`and ${what} is asked again, with a clean directory`, () =>
      Effect.gen(function* () {
        const bed = yield* makeBed()
        const planned = bed.storage.pageserver.faults.add(fault)
        const node = yield* bed.run()
        expect(planned.used()).toBe(1)
        expect(node.stderr()).toContain("Failed to get basebackup: ")
        if ("message" in fault) expect(node.stderr()).toContain("Failed to get basebackup: boom (attempt 0/10)")
        expect(commands(bed).at(-1)?.outcome).toBe("ok")
        expect(yield* node.sql("SELECT 1")).toEqual([["1"]])
        const { json } = yield* node.external("GET /metrics.json")
        expect(json).toMatchObject({ basebackup_bytes: yield* imageSize(bed) })
        yield* node.stop
      })
    )
  }

  it.live("and refuses the token fails the start with its words, after the retries", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const error = yield* bed.failure({ env: retries(1), spec: { storage_auth_token: "no token" } })
      expect(error).toContain("failed to get basebackup@")
      expect(bed.storage.pageserver.sessions.all()).toHaveLength(2)
    })
  )

  it.live("and serves another tenant fails the start with its words", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const tenant = "0123456789abcdef0123456789abcdef"
      bed.storage.stub.faults.add({ at: "sync", do: "print", text: "0/0", times: 2 })
      const foreign = yield* bed.failure({ env: retries(0), spec: { tenant_id: tenant } })
      expect(foreign).toContain("Unauthorized: ")
      const token = Redacted.value(yield* bed.storage.keys.storageToken(TenantId.make(tenant)))
      const unknown = yield* bed.failure({
        env: retries(0),
        spec: { tenant_id: tenant, storage_auth_token: token }
      })
      expect(unknown).toContain(`Not found: Tenant ${tenant} not found`)
    })
  )

  it.live("and hangs does not keep the node from ending", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      bed.storage.pageserver.faults.add({ at: "payload", do: "hang", afterBytes: 300_000, times: "forever" })
      const node = yield* bed.start()
      yield* eventually("the base backup has begun", () => (commands(bed)[0]?.payloadBytes ?? 0) > 0)
      const began = performance.now()
      const answer = yield* node.terminate("immediate")
      expect([answer.status, answer.json]).toEqual([200, { lsn: null }])
      expect((yield* node.exit).code).toBe(0)
      expect(performance.now() - began).toBeLessThan(3000)
    })
  )

  it.live("and whose address is malformed is not asked at all", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const error = yield* bed.failure({
        spec: {
          pageserver_connection_info: undefined,
          pageserver_connstring: "postgresql://no_user@127.0.0.1:notaport"
        }
      })
      expect(error).toContain("malformed address of the pageserver")
      expect(bed.storage.pageserver.sessions.all()).toEqual([])
    })
  )
})

const run = promisify(execFile)

/** A small file system that lasts as long as the Scope. */
const mount = (directory: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      await fs.mkdir(directory)
      await run("mount", ["-t", "tmpfs", "-o", "size=4m", "none", directory])
    }),
    () => Effect.promise(() => run("umount", [directory]))
  )

/** It takes root, and a container may refuse it nevertheless. */
const canMount = await fs.mkdtemp(join(tmpdir(), "compute-ctl-mount-")).then(async (directory) => {
  const mounted = await Effect.runPromiseExit(Effect.scoped(mount(join(directory, "small"))))
  await fs.rm(directory, { recursive: true })
  return Exit.isSuccess(mounted)
})

it.live.skipIf(!canMount)("a disk that is full while unpacking fails the start at once, and says so", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const small = join(bed.directory, "small")
    yield* mount(small)
    const error = yield* bed.failure({ args: { "--pgdata": join(small, "pgdata") } })
    expect(error).toContain("failed to get basebackup@")
    expect(error).toContain("no space left on device")
    expect(commands(bed)).toHaveLength(1)
  })
)

it.live.skipIf(!canMount)("a PGDATA that is a mount point cannot be replaced, and the error says why", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const { pgdata } = yield* bed.place()
    yield* mount(pgdata)
    const error = yield* bed.failure()
    expect(error).toContain(`cannot remove ${pgdata}: it is in use, for example as a mount point`)
    expect(commands(bed)).toEqual([])
  })
)
