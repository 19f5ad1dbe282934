/** `compute_ctl local` and `compute_ctl local move`, as somebody at a terminal uses them. */
import * as fs from "node:fs/promises"
import * as Net from "node:net"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as PgWire from "../../src/layers/PgWire.ts"
import { type Compute, eventually } from "../support/compute.ts"
import * as LocalMode from "../support/localMode.ts"

const pageserverOf = "SHOW neon.pageserver_connstring"

/** Value of the counter that every pageserver has. */
const misrouted = ({ metricsUrl }: LocalMode.Shown) =>
  Effect.promise(async () => {
    const text = await (await fetch(metricsUrl)).text()
    return /^pageserver_misrouted_pagestream_requests_total (\d+)$/mu.exec(text)?.[1]
  })

const portOf = (address: string): number => Number(address.split(":")[1])

/** Ctrl-C, and a good end. */
const stop = Effect.fnUntraced(function* (node: Compute) {
  yield* node.signal("SIGINT")
  const { code } = yield* node.exit
  expect([code, node.stderr()]).toEqual([0, ""])
  expect(node.stdout()).toMatch(/\nstopping …\nstopped, the data are kept\n$/u)
})

/** A program that listens on a port. */
const occupied = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer()
      server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  )

describe("compute_ctl local", () => {
  it.live("shows two pageservers; a move reaches the open session, and the next start remembers it", () =>
    Effect.gen(function* () {
      const place = yield* LocalMode.make
      const node = yield* place.run()
      const [first, second] = LocalMode.pageservers(node.stdout())
      if (first === undefined || second === undefined) throw new Error(`no pageservers in ${node.stdout()}`)
      expect([first, second]).toMatchObject([
        { id: 1, serves: true },
        { id: 2, serves: false }
      ])
      const session = yield* node.session
      yield* session.query("CREATE TABLE t AS SELECT 42 AS answer")
      const postmaster = yield* node.postmaster

      const moved = yield* place.move()
      expect(moved.stderr).toBe("")
      expect(moved.stdout).toMatch(
        new RegExp(
          [
            "^timeline [0-9a-f]{32} was moved from pageserver 1 to pageserver 2",
            "",
            `  from        postgresql://no_user@${first.address}`,
            `  to          postgresql://no_user@${second.address}`,
            "  live after  \\d+\\.\\d ms, in a session that was open before the move",
            `  postmaster  ${postmaster}, the same\n$`
          ].join("\n"),
          "u"
        )
      )
      expect(moved.code).toBe(0)
      const [seen] = yield* session.query(pageserverOf)
      expect(seen?.rows).toEqual([[`postgresql://no_user@${second.address}`]])
      yield* eventually("the terminal tells it", () =>
        node.stdout().includes(`new configuration in force: pageserver postgresql://no_user@${second.address}\n`)
      )

      const again = yield* place.move("--to", "2")
      expect(again).toMatchObject({
        code: 0,
        stderr: "",
        stdout: expect.stringContaining("is on pageserver 2 already")
      })
      const nowhere = yield* place.move("--to=3")
      expect(nowhere).toEqual({
        code: 1,
        stdout: "",
        stderr: "compute_ctl local move: there is no pageserver 3: they are 1 to 2\n"
      })
      yield* stop(node)

      const restarted = yield* place.run()
      const shown = LocalMode.pageservers(restarted.stdout())
      expect(shown.map(({ serves }) => serves)).toEqual([false, true])
      expect(yield* restarted.value("SELECT answer FROM t")).toBe("42")
      expect(yield* restarted.value(pageserverOf)).toBe(`postgresql://no_user@${shown[1]?.address}`)
      yield* stop(restarted)
    })
  )

  it.live("a base backup that is asked of the wrong pageserver is refused, and counted on its /metrics", () =>
    Effect.gen(function* () {
      const place = yield* LocalMode.make
      const node = yield* place.run("--pageservers=3")
      const shown = LocalMode.pageservers(node.stdout())
      expect(shown.map(({ serves }) => serves)).toEqual([true, false, false])
      const [tenant, timeline] = yield* Effect.map(
        node.sql("SELECT current_setting('neon.tenant_id'), current_setting('neon.timeline_id')"),
        ([row = []]) => row
      )
      const password = yield* place.storageToken
      const answers = yield* Effect.forEach(shown, ({ address }) =>
        Effect.scoped(
          Effect.gen(function* () {
            const session = yield* PgWire.connect({
              target: {
                host: "127.0.0.1",
                port: portOf(address),
                user: "no_user",
                database: undefined,
                password: undefined,
                options: undefined
              },
              password
            })
            yield* session.copyOut(`basebackup ${tenant} ${timeline} --gzip`)
            return "sent"
          })
        ).pipe(Effect.catch(({ message }) => Effect.succeed(message)))
      )
      const refused = `Not found: Tenant ${tenant} not found`
      expect(answers).toEqual(["sent", refused, refused])
      expect(yield* Effect.forEach(shown, misrouted)).toEqual(["0", "1", "1"])
      expect((yield* node.external("GET /metrics")).text).toContain("\npg_cctl_pagestream_request_errors_total 0\n")
      yield* place.move("--to=3")
      expect((yield* node.external("GET /metrics")).text).toContain("\npg_cctl_pagestream_request_errors_total 1\n")
      yield* stop(node)
    })
  )

  it.live("moves from several terminals at once all arrive", () =>
    Effect.gen(function* () {
      const place = yield* LocalMode.make
      const node = yield* place.run()
      const moves = yield* Effect.all([place.move(), place.move(), place.move()], { concurrency: "unbounded" })
      for (const { code, stderr, stdout } of moves) {
        expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
        expect(stdout).toMatch(/live after .*\n {2}postmaster {2}\d+, the same\n$/u)
      }
      const [, second] = LocalMode.pageservers(node.stdout())
      expect(yield* node.value(pageserverOf)).toBe(`postgresql://no_user@${second?.address}`)
      yield* stop(node)
    })
  )

  it.live("a move where nothing runs says so: before, after, and where a killed process has left its traces", () =>
    Effect.gen(function* () {
      const place = yield* LocalMode.make
      const nothing = {
        code: 1,
        stdout: "",
        stderr: `compute_ctl local move: nothing runs on ${place.dataDir}: start it with \`compute_ctl local\`\n`
      }
      expect(yield* place.move()).toEqual(nothing)
      const node = yield* place.run("--pageservers", "1")
      const control = join(place.dataDir, "control.json")
      const { mode } = yield* Effect.promise(() => fs.stat(control))
      expect(mode & 0o777).toBe(0o600)
      expect((yield* place.move("--to=2")).stderr).toContain("there is no pageserver 2: there is only pageserver 1")
      yield* node.signal("SIGKILL")
      yield* node.exit
      expect((yield* Effect.promise(() => fs.stat(control))).isFile()).toBe(true)
      expect(yield* place.move()).toEqual(nothing)
      const again = yield* place.run()
      expect((yield* place.move()).code).toBe(0)
      yield* stop(again)
      expect(yield* place.move()).toEqual(nothing)
    })
  )

  it.live("a port that is taken is named with its option, before Postgres is started; so is a directory in use", () =>
    Effect.gen(function* () {
      const place = yield* LocalMode.make
      for (const [option, port] of [
        ["port", place.ports.port],
        ["http-port", place.ports.externalPort],
        ["internal-http-port", place.ports.internalPort]
      ] as const) {
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* occupied(port)
            const node = yield* place.start()
            expect((yield* node.exit).code).toBe(1)
            expect(node.stderr()).toBe(
              `compute_ctl local: port ${port} of 127.0.0.1 is in use: choose another one with --${option}\n`
            )
          })
        )
      }
      const node = yield* place.run()
      const logFile = join(place.dataDir, "compute_ctl.log")
      const log = yield* Effect.promise(() => fs.readFile(logFile, "utf8"))
      const second = yield* place.start()
      expect((yield* second.exit).code).toBe(1)
      expect(second.stderr()).toContain(`${place.dataDir}/timelines is in use by process ${node.pid}`)
      expect(yield* Effect.promise(() => fs.readFile(logFile, "utf8"))).toContain(log)
      expect(yield* node.value("SELECT 1")).toBe("1")
      yield* stop(node)
    })
  )
})
