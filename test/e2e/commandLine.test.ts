/** What the command line and the documents must look like, and how the program says that they do not. */
import * as fs from "node:fs/promises"
import * as Net from "node:net"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type Bed, makeBed, type StartOptions } from "../support/bed.ts"
import { isFree } from "../support/ports.ts"

/** Somebody else on this machine uses one of them. */
const defaultPortsTaken = !(await isFree(3080)) || !(await isFree(3081))

const isRoot = process.getuid?.() === 0

/** PGDATA of an earlier run: a start that is refused must leave it alone. */
const leaveOldFiles = (bed: Bed) =>
  Effect.flatMap(bed.place(), ({ pgdata }) =>
    Effect.promise(async () => {
      await fs.mkdir(pgdata, { recursive: true, mode: 0o755 })
      await fs.writeFile(join(pgdata, "precious"), "data")
    })
  )

/** A start that ends at once; its exit code and its words, and that nothing was touched. */
const refusal = Effect.fnUntraced(function* (bed: Bed, options: StartOptions) {
  yield* leaveOldFiles(bed)
  const node = yield* bed.start(options)
  const { code } = yield* node.exit
  const { pgdata } = yield* bed.place()
  expect(yield* Effect.promise(() => fs.readdir(pgdata))).toEqual(["precious"])
  expect(node.stderr()).not.toContain("HTTP server listening")
  return { code, said: node.stderr() }
})

describe("command line", () => {
  it.live("S-001 --help ends with 0 and names each option once", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start({ source: "none", args: { "--help": "" } })
      expect((yield* node.exit).code).toBe(0)
      const options = [...node.stdout().matchAll(/^ {2}(?:(-\w), | {4})(--[a-z-]+)/gmu)]
      const long = options.map(([, , name]) => name)
      const short = options.flatMap(([, letter]) => letter ?? [])
      expect(long).toEqual(expect.arrayContaining(["--pgdata", "--connstr", "--compute-id", "--config", "--pgbin"]))
      expect(new Set(long).size).toBe(long.length)
      expect(new Set(short).size).toBe(short.length)
      expect(node.stderr()).toBe("")
    })
  )

  it.live.skipIf(defaultPortsTaken)("S-001 the five short options are enough, the servers are on 3080 and 3081", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { pgdata, port } = yield* bed.place()
      const node = yield* bed.run({
        args: {
          "--pgdata": undefined,
          "--connstr": undefined,
          "--pgbin": undefined,
          "--compute-id": undefined,
          "--config": undefined,
          "--external-http-port": undefined,
          "--internal-http-port": undefined,
          "-D": pgdata,
          "-C": `postgresql://cloud_admin@localhost:${port}/postgres`,
          "-i": bed.computeId(),
          "-c": join(bed.directory, "node.json"),
          "-b": bed.storage.stub.postgres
        }
      })
      expect([node.externalPort, node.internalPort]).toEqual([3080, 3081])
      expect((yield* node.internal("GET /nope")).status).toBe(404)
      yield* node.stop
    })
  )

  it.live("S-002 a missing mandatory option is a usage error that names it", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      for (const name of ["--compute-id", "--pgdata", "--connstr"]) {
        const { code, said } = yield* refusal(bed, { args: { [name]: undefined } })
        expect(code, name).toBe(2)
        expect(said).toContain(name)
        expect(said.trimEnd().split("\n")).toHaveLength(1)
      }
    })
  )

  it.live("P3 without a source for the spec, or with two, the usage error names all sources", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const none = yield* refusal(bed, { source: "none" })
      expect(none.code).toBe(2)
      for (const name of ["--config", "--control-plane-uri", "--spec-path"]) expect(none.said).toContain(name)
      const two = yield* refusal(bed, { args: { "--control-plane-uri": "http://127.0.0.1:1" } })
      expect(two).toMatchObject({ code: 2, said: expect.stringContaining("cannot be used with") })
    })
  )

  it.live("S-004 a base URL of extensions with a query is refused", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { code, said } = yield* refusal(bed, {
        args: { "--remote-ext-base-url": "https://example.com?hello=world" }
      })
      expect(code).toBe(2)
      expect(said).toContain("parameters detected in remote extensions base URL")
    })
  )

  it.live("S-005 the name of the privileged role reaches Postgres", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run({ args: { "--privileged-role-name": "my_superuser" } })
      expect(yield* node.value("SHOW neon.privileged_role_name")).toBe("my_superuser")
      yield* node.stop
    })
  )

  it.live("S-006 a privileged role name with capitals is refused", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { code, said } = yield* refusal(bed, { args: { "--privileged-role-name": "NeonSuperuser" } })
      expect(code).toBe(2)
      expect(said).toContain("can only contain lowercase letters and underscores")
    })
  )

  it.live("a postgres binary that is missing, no file, or not to be executed is a usage error", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const plain = join(bed.directory, "plain")
      yield* Effect.promise(() => fs.writeFile(plain, "text", { mode: 0o644 }))
      for (const [pgbin, why] of [
        ["/nonexistent/postgres", "does not exist"],
        [plain, "is not an executable file"],
        [bed.directory, "is not an executable file"],
        ["no-such-postgres", "no program 'no-such-postgres' in PATH"]
      ] as const) {
        const { code, said } = yield* refusal(bed, { args: { "--pgbin": pgbin } })
        expect(code, pgbin).toBe(2)
        expect(said).toContain(why)
      }
    })
  )

  it.live("a program that is not Postgres fails the start, and the failure is readable", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const pgbin = yield* bed.wrapper("echo 'I am no Postgres' >&2; exit 3")
      const node = yield* bed.start({ args: { "--pgbin": pgbin } })
      const { error } = yield* node.waitFor("failed")
      expect(error).toBe("Postgres exited unexpectedly with code 3")
      expect(node.stderr()).toContain("PG:I am no Postgres")
    })
  )

  it.live("P4 a port that is taken ends the start with the address, before PGDATA is touched", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { externalPort, internalPort } = yield* bed.place()
      yield* leaveOldFiles(bed)
      for (const [port, host] of [
        [externalPort, "0.0.0.0"],
        [internalPort, "127.0.0.1"]
      ] as const) {
        const code = yield* Effect.scoped(
          Effect.gen(function* () {
            yield* Effect.acquireRelease(
              Effect.callback<Net.Server>((resume) => {
                const server = Net.createServer()
                server.listen(port, host, () => resume(Effect.succeed(server)))
              }),
              (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
            )
            const node = yield* bed.start()
            const { code } = yield* node.exit
            expect(node.stderr()).toMatch(new RegExp(`Error: .*:${port}\\b`, "u"))
            expect(yield* Effect.promise(() => fs.readdir(node.pgdata))).toEqual(["precious"])
            return code
          })
        )
        expect(code).toBe(1)
      }
    })
  )

  it.live.skipIf(!isRoot)("P6 a user that does not exist is an error, before any port is opened", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { code, said } = yield* refusal(bed, { args: { "--run-as": "no-such-user" } })
      expect(code).toBe(1)
      expect(said).toContain("Error: --run-as no-such-user: no such user")
    })
  )

  it.live("a start needs no stdin", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run({ closedInput: true })
      yield* node.stop
    })
  )
})

describe("documents", () => {
  it.live("S-008 a spec with nothing but the mandatory members is enough", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run({
        document: ({ spec, ...config }) => ({
          ...config,
          spec: Object.fromEntries(
            [
              "format_version",
              "cluster",
              "suspend_timeout_seconds",
              "tenant_id",
              "timeline_id",
              "pageserver_connection_info",
              "safekeeper_connstrings",
              "storage_auth_token"
            ].map((name) => [name, spec[name]])
          )
        })
      })
      const conf = yield* node.file("postgresql.conf")
      expect(conf).toContain("\nneon.compute_mode=primary\n")
      expect(conf).not.toContain("pgaudit")
      yield* node.stop
    })
  )

  it.live("S-009 unknown members of the spec are ignored", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run({ spec: { unknown_field_123: "hello", timestamp: "2026-11-21T10:00:00Z" } })
      expect(node.stderr()).not.toContain("unknown_field_123")
      yield* node.stop
    })
  )

  it.live("S-010 unknown feature flags change nothing", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run({ spec: { features: ["foo_bar_feature", "baz_feature"] } })
      expect(node.stderr()).not.toMatch(/ (?:WARN|ERROR) /u)
      yield* node.stop
    })
  )

  it.live("S-012 addresses that stand in the settings only are found there", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { pageserver, safekeepers, tenantId, timelineId } = bed.storage
      const setting = (name: string, value: string) => ({ name: `neon.${name}`, value, vartype: "string" })
      const node = yield* bed.run({
        spec: {
          tenant_id: undefined,
          timeline_id: undefined,
          pageserver_connection_info: undefined,
          safekeeper_connstrings: undefined
        },
        settings: [
          setting("tenant_id", tenantId),
          setting("timeline_id", timelineId),
          setting("pageserver_connstring", pageserver.url),
          setting("safekeepers", safekeepers.map(({ address }) => address).join(","))
        ]
      })
      expect(yield* node.status).toMatchObject({ tenant: tenantId, timeline: timelineId })
      expect(pageserver.commands.all()).toHaveLength(1)
      expect(safekeepers.flatMap(({ commands }) => commands.all()).length).toBeGreaterThanOrEqual(2)
      yield* node.stop
    })
  )

  it.live("S-013 a safekeeper that is listed twice is an error before any port is opened", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { code, said } = yield* refusal(bed, {
        spec: { safekeeper_connstrings: ["sk1:5454", "sk2:5454", "sk1:5454"] }
      })
      expect(code).toBe(1)
      expect(said).toContain("Error: duplicate entry in safekeeper_connstrings: sk1:5454")
    })
  )

  it.live("S-014 a config file that is missing, is none, or is not of the right shape ends the start", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const cases: ReadonlyArray<readonly [StartOptions, string]> = [
        [{ args: { "--config": "/nonexistent/config.json" } }, "/nonexistent/config.json: no such file or directory"],
        [{ args: { "--config": bed.directory } }, bed.directory],
        [{ document: () => "not JSON" }, "node.json"],
        [{ document: () => "" }, "node.json"],
        [{ document: ({ spec }) => ({ spec }) }, "compute_ctl_config"],
        [{ spec: { cluster: { roles: "none" } } }, "spec.cluster"],
        [{ spec: { mode: "Secondary" } }, "spec.mode"],
        [{ spec: { suspend_timeout_seconds: "300" } }, "spec.suspend_timeout_seconds"],
        [{ spec: { tenant_id: undefined } }, "tenant id should be provided"],
        [{ spec: { timeline_id: undefined } }, "timeline id should be provided"],
        [{ spec: { tenant_id: "abc" } }, "spec.tenant_id"],
        [{ spec: { pageserver_connection_info: undefined } }, "pageserver connection information should be provided"],
        [{ spec: { safekeeper_connstrings: undefined } }, "safekeeper connstrings should be provided"]
      ]
      for (const [options, text] of cases) {
        const { code, said } = yield* refusal(bed, options)
        expect(code, said).toBe(1)
        expect(said).toContain(text)
        expect(said.split("\n").filter((line) => line.startsWith("Error: "))).toHaveLength(1)
      }
    })
  )

  it.live("-S takes a bare spec: the node runs under the spec's endpoint id, and no token is good", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start({ source: "specFile", args: { "--compute-id": undefined } })
      yield* node.logged("compute start finished")
      expect(yield* node.value("SELECT 1")).toBe("1")
      expect((yield* node.external("GET /status")).status).toBe(401)
      expect((yield* node.external("GET /metrics")).text).toContain('status="running"')
      expect(node.stderr()).toContain("--spec-path brings no keys")
      yield* node.signal("SIGTERM")
      expect((yield* node.exit).code).toBe(0)
    })
  )
})
