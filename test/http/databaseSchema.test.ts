/** `GET /database_schema` with a `pg_dump` of the test's making; the real one is in `e2e/databaseSchema.test.ts`. */
import * as fs from "node:fs/promises"
import * as Http from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { eventually, isAlive } from "../support/compute.ts"
import * as PgServer from "../support/pgServer.ts"
import { ownToken, start } from "./harness.ts"

/** Knows every database but `nope`. */
const postgres = PgServer.listen(async ({ next, send }) => {
  await send(PgServer.trusted)
  for (let message = await next(); message?.type === "Q"; message = await next()) {
    const found = message.text.includes("'nope'") ? [] : [PgServer.dataRow()]
    await send(PgServer.rowDescription(), ...found, PgServer.commandComplete(`SELECT ${found.length}`), PgServer.ready)
  }
})

interface Options {
  /** Text of `pg_dump`, a shell script in `$dir`; undefined: there is none. */
  readonly script?: string
  /** Where it lies: beside postgres, or in PATH. */
  readonly place?: "beside" | "path"
}

/** A node whose Postgres is there, with a `pg_dump`. */
const nodeWith = ({ place = "beside", script }: Options) =>
  Effect.gen(function* () {
    const dir = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const path = await fs.mkdtemp(join(tmpdir(), "compute-dump-"))
        await fs.chmod(path, 0o777)
        for (const name of ["beside", "path"]) await fs.mkdir(join(path, name))
        const text = `#!/bin/sh\ndir='${path}'\n${script}\n`
        if (script !== undefined) await fs.writeFile(join(path, place, "pg_dump"), text, { mode: 0o755 })
        return path
      }),
      (path) => Effect.promise(() => fs.rm(path, { recursive: true, force: true }))
    )
    const { port } = yield* postgres
    const lines: Array<string> = []
    const node = yield* Effect.acquireRelease(
      Effect.promise(() =>
        start({
          log: (line) => lines.push(line),
          params: {
            pgbin: join(dir, "beside", "postgres"),
            environment: { PATH: `${join(dir, "path")}:/usr/bin:/bin` },
            postgres: {
              host: "127.0.0.1",
              port,
              user: "cloud_admin",
              database: "postgres",
              password: "secret",
              options: undefined
            }
          }
        })
      ),
      (started) => Effect.promise(() => started.close())
    )
    const read = (name: string) => fs.readFile(join(dir, name), "utf8").catch(() => "")
    /** Processes that wrote their number into the file. */
    const pids = async (name: string) => (await read(name)).split("\n").filter(Boolean).map(Number)
    return { ...node, lines, read, pids }
  })

const dump = "GET /database_schema?database=shop"

/** The answer as soon as it has begun; the Scope breaks the connection. */
const open = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<Http.IncomingMessage, Error>((resume) => {
      const request = Http.get(
        {
          port,
          path: "/database_schema?database=shop",
          agent: false,
          headers: { authorization: `Bearer ${ownToken}` }
        },
        (response) => resume(Effect.succeed(response))
      )
      request.once("error", (error) => resume(Effect.fail(error)))
      return Effect.sync(() => request.destroy())
    }),
    (response) => Effect.sync(() => response.destroy())
  )

it.live("the dump is what pg_dump prints, asked for the schema of that database alone", () =>
  Effect.gen(function* () {
    const node = yield* nodeWith({ script: `printf '%s\\n' "$@" "$PGDATABASE" "$PGPASSWORD"` })
    const reply = yield* Effect.promise(() =>
      node.external("GET /database_schema?database=a%20b%3Dc%27%22%24%F0%9F%90%98")
    )
    expect(reply.status).toBe(200)
    expect(reply.headers["content-type"]).toBe("application/json")
    expect(reply.text.split("\n")).toEqual([
      "--host",
      "127.0.0.1",
      "--port",
      expect.stringMatching(/^\d+$/u),
      "--username",
      "cloud_admin",
      "--no-password",
      "--lock-wait-timeout=30000",
      "--schema-only",
      "a b=c'\"$🐘",
      "secret",
      ""
    ])
  })
)

it.live("pg_dump is looked for beside postgres, then in PATH", () =>
  Effect.gen(function* () {
    const node = yield* nodeWith({ place: "path", script: "echo from PATH" })
    expect((yield* Effect.promise(() => node.external(dump))).text).toBe("from PATH\n")
  })
)

it.live("where there is no pg_dump, the 500 says what is missing", () =>
  Effect.gen(function* () {
    const { port } = yield* postgres
    const target = { host: "127.0.0.1", port, user: "a", database: "a", password: undefined, options: undefined }
    const params = { pgbin: "/nonexistent/postgres", environment: { PATH: "/nonexistent" }, postgres: target }
    const node = yield* Effect.acquireRelease(
      Effect.promise(() => start({ params })),
      (started) => Effect.promise(() => started.close())
    )
    const reply = yield* Effect.promise(() => node.external(dump))
    expect([reply.status, reply.json]).toEqual([
      500,
      { error: "there is no pg_dump, neither beside /nonexistent/postgres nor in PATH" }
    ])
  })
)

it.live("S-133 an unknown database is 404, and pg_dump is not run", () =>
  Effect.gen(function* () {
    const node = yield* nodeWith({ script: 'echo $$ >"$dir/pids"; echo x' })
    const reply = yield* Effect.promise(() => node.external("GET /database_schema?database=nope"))
    expect([reply.status, reply.json]).toEqual([404, { error: "database does not exist" }])
    expect(yield* Effect.promise(() => node.pids("pids"))).toEqual([])
  })
)

it.live.each<readonly [script: string, error: string]>([
  ["exit 3", "failed to execute pg_dump: exit status: 3"],
  ["echo 'pg_dump: error: no luck' >&2; exit 1", "failed to execute pg_dump: no luck"],
  ["kill -9 $$", "failed to execute pg_dump: signal: SIGKILL"],
  ["exit 0", "failed to execute pg_dump: it printed nothing"]
])("pg_dump that prints nothing and fails by `%s` is 500 with its words", ([script, error]) =>
  Effect.gen(function* () {
    const node = yield* nodeWith({ script })
    const reply = yield* Effect.promise(() => node.external(dump))
    expect([reply.status, reply.json]).toEqual([500, { error }])
    if (error.endsWith("luck")) expect(node.lines).toContain("Warn pg_dump stderr: pg_dump: error: no luck")
  })
)

it.live("pg_dump that is older than the server is 500 with both versions", () =>
  Effect.gen(function* () {
    const node = yield* nodeWith({
      script: `echo 'pg_dump: error: aborting because of server version mismatch' >&2
echo 'pg_dump: detail: server version: 17.10; pg_dump version: 15.18 (Debian 15.18-0+deb12u1)' >&2
exit 1`
    })
    const reply = yield* Effect.promise(() => node.external(dump))
    expect(reply.status).toBe(500)
    expect(Object(reply.json).error).toMatch(
      /^\/.*\/pg_dump is older than the server, install one of its version: aborting .*; server version: 17\.10; pg_dump version: 15\.18/u
    )
  })
)

it.live(
  "pg_dump that fails after its first words breaks the connection: half a dump is not taken for a whole one",
  () =>
    Effect.gen(function* () {
      const node = yield* nodeWith({ script: "echo begin; sleep 0.2; exit 1" })
      const broken = yield* Effect.flip(Effect.tryPromise(() => node.external(dump)))
      expect(String(broken.cause)).toMatch(/aborted|socket hang up/u)
      expect(node.lines).toContainEqual(expect.stringContaining("the answer broke off"))
    })
)

it.live("S-135 pg_dump and what it started end with their reader, while others are served", () =>
  Effect.gen(function* () {
    const node = yield* nodeWith({
      script: `echo $$ >>"$dir/pids"; echo begin; trap '' TERM; sleep 100 & echo $! >>"$dir/pids"; wait; wait`
    })
    const pids = yield* Effect.scoped(
      Effect.gen(function* () {
        const response = yield* open(node.externalPort)
        expect(response.statusCode).toBe(200)
        yield* eventually("both processes run", async () => (await node.pids("pids")).length === 2)
        expect((yield* Effect.promise(() => node.external("GET /status"))).status).toBe(200)
        return yield* Effect.promise(() => node.pids("pids"))
      })
    )
    yield* eventually("both processes are gone", () => !pids.some(isAlive))
    expect((yield* Effect.promise(() => node.external("GET /status"))).status).toBe(200)
  })
)

it.live("a client that leaves before the first word ends pg_dump as well", () =>
  Effect.gen(function* () {
    const node = yield* nodeWith({ script: `echo $$ >>"$dir/pids"; exec sleep 100` })
    const patience = new AbortController()
    const asked = node.external(dump, { signal: patience.signal }).catch(() => "left")
    yield* eventually("it runs", async () => (await node.pids("pids")).length === 1)
    patience.abort()
    expect(yield* Effect.promise(() => asked)).toBe("left")
    const pids = yield* Effect.promise(() => node.pids("pids"))
    yield* eventually("it is gone", () => !pids.some(isAlive))
  })
)

it.live("HEAD has the status, and leaves no pg_dump behind", () =>
  Effect.gen(function* () {
    const node = yield* nodeWith({ script: `echo $$ >>"$dir/pids"; echo begin; exec sleep 100` })
    const reply = yield* Effect.promise(() => node.external(dump.replace("GET", "HEAD")))
    expect([reply.status, reply.text]).toEqual([200, ""])
    const pids = yield* Effect.promise(() => node.pids("pids"))
    expect(pids).toHaveLength(1)
    yield* eventually("it is gone", () => !pids.some(isAlive))
  })
)

it.live("pg_dump waits for a slow reader, and all of a long dump arrives", () =>
  Effect.gen(function* () {
    const mebibytes = 48
    const node = yield* nodeWith({
      script: `i=0
while [ $i -lt ${mebibytes} ]; do
  head -c 1048576 /dev/zero | tr '\\0' x || exit 1
  i=$((i+1)); echo $i >"$dir/written"
done`
    })
    const response = yield* open(node.externalPort)
    const written = async () => Number(await node.read("written"))
    let seen = -1
    yield* eventually("nothing more is written", async () => {
      const before = seen
      seen = await written()
      await new Promise((resolve) => setTimeout(resolve, 300))
      return before === seen && seen > 0
    })
    expect(seen).toBeLessThan(mebibytes / 2)
    const bytes = yield* Effect.promise(async () => {
      let sum = 0
      for await (const chunk of response) sum += chunk.length
      return sum
    })
    expect(bytes).toBe(mebibytes * 1024 * 1024)
  })
)
