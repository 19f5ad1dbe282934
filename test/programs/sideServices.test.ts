/** local_proxy is a process that holds the lock on its file; pgbouncer's console is a server of this test. */
import { spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { decodeComputeSpec } from "../../src/domain/ComputeConfig.ts"
import * as ParsedSpec from "../../src/domain/ParsedSpec.ts"
import * as Logging from "../../src/layers/Logging.ts"
import { Params } from "../../src/layers/Params.ts"
import { SideServicePlaces } from "../../src/layers/sideServices.ts"
import { tellSideServices } from "../../src/programs/sideServices.ts"
import { nodeParams } from "../support/params.ts"
import * as PgServer from "../support/pgServer.ts"

const specOf = (change: object) =>
  Result.getOrThrow(
    Result.flatMap(
      decodeComputeSpec({
        format_version: 1,
        suspend_timeout_seconds: -1,
        cluster: { roles: [], databases: [] },
        tenant_id: "9e4c8f36063c6c6e93bc20d65a820f3d",
        timeline_id: "814ce0bd2ae452e11575402e8296b64d",
        pageserver_connstring: "postgresql://127.0.0.1:6400",
        safekeeper_connstrings: ["127.0.0.1:6500"],
        mode: "Primary",
        ...change
      }),
      ParsedSpec.parse
    )
  )

const until = (found: () => Promise<boolean>): Effect.Effect<void> =>
  Effect.gen(function* () {
    while (!(yield* Effect.promise(found))) yield* Effect.sleep("10 millis")
  }).pipe(Effect.timeoutOrElse({ duration: "10 seconds", orElse: () => Effect.die(new Error("it did not happen")) }))

const text = (path: string): Promise<string> => fs.readFile(path, "utf8").catch(() => "")

/** The services' places in a directory of their own, and a node that tells them. */
const machine = Effect.gen(function* () {
  const directory = yield* Effect.acquireRelease(
    Effect.promise(() => fs.mkdtemp(join(tmpdir(), "compute-ctl-side-"))),
    (path) => Effect.promise(() => fs.rm(path, { recursive: true, force: true }))
  )
  const at = (name: string) => join(directory, name)
  const said: Array<string> = []
  const console = yield* PgServer.listen(async (peer) => {
    said.push(JSON.stringify(Object.fromEntries(peer.startup)))
    await peer.send(PgServer.cleartextPassword)
    said.push((await peer.next())?.text ?? "")
    await peer.send(PgServer.trusted)
    said.push((await peer.next())?.text ?? "")
    await peer.send(PgServer.commandComplete("RELOAD"), PgServer.ready)
  })
  const log: Array<string> = []
  const tell = (change: object, { dev = false, port = console.port } = {}) =>
    tellSideServices(specOf(change)).pipe(
      Effect.provide(
        Layer.merge(
          Layer.succeed(
            Params,
            nodeParams({
              pgdata: directory,
              postgres: {
                host: "localhost",
                port: 1,
                user: "u",
                database: "d",
                password: undefined,
                options: undefined
              },
              dev,
              environment: { PGBOUNCER_PASSWORD: "secret" }
            })
          ),
          Logging.layer({ rustLog: undefined, write: (line) => log.push(line) })
        )
      ),
      Effect.provideService(SideServicePlaces, {
        localProxyConfig: at("config.json"),
        localProxyPid: at("pid"),
        pgbouncerIni: { autoscaling: at("vm.ini"), plain: at("pgbouncer.ini") },
        pgbouncerHost: { autoscaling: directory, plain: "127.0.0.1" },
        pgbouncerPort: port
      })
    )
  return { at, said, log, tell }
})

/** A process that has its id in a file, holds the lock on it, and counts its SIGHUPs in another. */
const lockHolder = (pid: string, hups: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const script = `trap 'echo hup >> "${hups}"' HUP; printf %s $$ > "${pid}"; while :; do sleep 0.05; done`
      return spawn("flock", ["--no-fork", pid, "sh", "-c", script], { stdio: "ignore" })
    }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

const jwks = (id: string) => ({
  jwks: [
    { id, role_names: ["authenticated"], jwks_url: "https://example.com/jwks", provider_name: "p", jwt_audience: null }
  ]
})

describe("local_proxy", () => {
  it.live("S-202 its part of the spec is written, and the process told, each time", () =>
    Effect.gen(function* () {
      const { at, tell } = yield* machine
      yield* lockHolder(at("pid"), at("hups"))
      yield* until(async () => (await text(at("pid"))) !== "")
      for (const [turn, id] of ["one", "two"].entries()) {
        yield* tell({ local_proxy_config: jwks(id) })
        yield* until(async () => (await text(at("hups"))) === "hup\n".repeat(turn + 1))
        const [entry] = jwks(id).jwks
        assert.strictEqual(
          yield* Effect.promise(() => text(at("config.json"))),
          JSON.stringify({ jwks: [entry] }, undefined, 2)
        )
      }
    }).pipe(Effect.scoped)
  )

  it.live("a process that does not hold the lock is not touched, and a directory that is missing is logged", () =>
    Effect.gen(function* () {
      const { at, log, tell } = yield* machine
      yield* Effect.promise(() => fs.writeFile(at("pid"), String(process.pid))) // a SIGHUP would end this process
      yield* tell({ local_proxy_config: jwks("one") })
      yield* until(async () => (await text(at("config.json"))) !== "")
      yield* Effect.promise(async () => {
        await fs.rm(at("config.json"))
        await fs.mkdir(at("config.json"))
      })
      yield* tell({ local_proxy_config: jwks("two") })
      yield* until(async () => log.some((line) => line.includes("error while configuring local_proxy: writing")))
    }).pipe(Effect.scoped)
  )
})

describe("pgbouncer", () => {
  const before = "[databases]\n* = host=localhost\n\n[pgbouncer]\nlisten_port = 6432\npool_mode = transaction\n"
  const settings = { default_pool_size: "42", pool_mode: "session" }

  it.live("S-203 its settings are written, the others kept, and its console gets RELOAD", () =>
    Effect.gen(function* () {
      const { at, said, tell } = yield* machine
      yield* Effect.promise(() => fs.writeFile(at("pgbouncer.ini"), before))
      yield* tell({ pgbouncer_settings: settings })
      yield* until(async () => said.length === 3)
      assert.deepStrictEqual(said, [
        JSON.stringify({ client_encoding: "UTF8", user: "postgres", database: "pgbouncer" }),
        "secret",
        "RELOAD"
      ])
      assert.strictEqual(
        yield* Effect.promise(() => text(at("pgbouncer.ini"))),
        `${before.replace("transaction", "session")}default_pool_size = 42\n`
      )
    }).pipe(Effect.scoped)
  )

  it.live("S-203 one that is not there is logged, without its password", () =>
    Effect.gen(function* () {
      const { at, log, tell } = yield* machine
      yield* Effect.promise(() => fs.writeFile(at("pgbouncer.ini"), before))
      yield* tell({ pgbouncer_settings: settings }, { port: 1 })
      yield* until(async () => log.some((line) => /error while tuning pgbouncer: RELOAD: .*127\.0\.0\.1:1/u.test(line)))
      assert.isFalse(log.some((line) => line.includes("secret")))
      assert.include(yield* Effect.promise(() => text(at("pgbouncer.ini"))), "default_pool_size = 42")
    }).pipe(Effect.scoped)
  )

  it.live("with --dev both are left alone", () =>
    Effect.gen(function* () {
      const { at, log, said, tell } = yield* machine
      yield* Effect.promise(() => fs.writeFile(at("pgbouncer.ini"), before))
      yield* tell({ pgbouncer_settings: settings, local_proxy_config: jwks("one") }, { dev: true })
      assert.isTrue(log.some((line) => line.includes("are left alone because of --dev")))
      assert.deepStrictEqual(said, [])
      assert.strictEqual(yield* Effect.promise(() => text(at("pgbouncer.ini"))), before)
    }).pipe(Effect.scoped)
  )
})
