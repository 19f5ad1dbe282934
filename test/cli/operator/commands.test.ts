/** The commands as built, against the real servers of a node. */
import { execFile } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import { root } from "../../../build/inputs.ts"
import { operatorCommands } from "../../../src/cli/operator/options.ts"
import { deserted, json, scripted, status } from "../../http/client/scripted.ts"
import { configuration, eventsTo, ownToken, start } from "../../http/harness.ts"

interface Ended {
  readonly code: unknown
  readonly stdout: string
  readonly stderr: string
}

interface How {
  readonly input?: string
  readonly env?: Readonly<Record<string, string>>
  /** Called with all output so far; the value is a signal for the process. */
  readonly onOutput?: (stdout: string) => NodeJS.Signals | undefined
}

const run = (args: ReadonlyArray<string>, { env, input, onOutput }: How = {}) =>
  new Promise<Ended>((done) => {
    const child = execFile(
      join(root, "bin/compute_ctl"),
      [...args],
      { cwd: "/", env: { PATH: "/usr/bin:/bin", ...env } },
      (error, stdout, stderr) => done({ code: error?.code ?? 0, stdout, stderr })
    )
    let seen = ""
    child.stdout?.on("data", (text: string) => {
      seen += text
      const signal = onOutput?.(seen)
      if (signal !== undefined) child.kill(signal)
    })
    child.stdin?.end(input)
  })

type Node = Awaited<ReturnType<typeof start>>

const to = (node: Node, command: string, ...args: ReadonlyArray<string>): ReadonlyArray<string> => [
  command,
  `--url=http://127.0.0.1:${node.externalPort}`,
  `--internal-url=http://127.0.0.1:${node.internalPort}`,
  ...args
]

const authorized = { COMPUTE_CTL_TOKEN: ownToken }

describe("the commands, as built", () => {
  let folder = ""
  beforeAll(async () => {
    await promisify(execFile)(process.execPath, [join(root, "build/ensure.ts")], { cwd: "/" })
    folder = mkdtempSync(join(tmpdir(), "compute_ctl-operator-"))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  const file = (name: string, content: string): string => {
    const path = join(folder, name)
    writeFileSync(path, content)
    return path
  }

  it("show the status, in words and as the node's own document", async () => {
    await using node = await start({ events: ["startup_begins"] })
    const shown = await run(to(node, "status"), { env: authorized })
    expect(shown).toMatchObject({ code: 0, stderr: "" })
    expect(shown.stdout).toMatch(/^init\n {2}started {2}2026-11-21 08:49:07 UTC, .* ago\n$/u)
    const { code, stdout } = await run(to(node, "status", "--json", "--token", ownToken))
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toEqual((await node.external("GET /status")).json)
  })

  it.each([
    ["timeline", "/timeline", "no stage has begun\n"],
    ["reconcile", "/reconcile", "nothing was applied by this process yet\n"]
  ])("show the %s", async (command, path, text) => {
    await using node = await start()
    expect(await run(to(node, command), { env: authorized })).toEqual({ code: 0, stdout: text, stderr: "" })
    const { stdout } = await run(to(node, command, "--json"), { env: authorized })
    expect(JSON.parse(stdout)).toEqual((await node.external(`GET ${path}`)).json)
  })

  it("show metrics without a token", async () => {
    await using node = await start()
    const { code, stderr, stdout } = await run(to(node, "metrics"))
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    expect(stdout).toMatch(/^compute_ctl_up\{build_tag="latest",status="empty"\} +1\n/u)
    const families: unknown = JSON.parse((await run(to(node, "metrics", "--json"))).stdout)
    expect(families).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          name: "compute_ctl_up",
          samples: [{ name: "compute_ctl_up", labels: { build_tag: "latest", status: "empty" }, value: 1 }]
        })
      ])
    )
  })

  it("refresh asks the internal server, without a token", async () => {
    await using node = await start({ events: eventsTo.running })
    const { code, stdout } = await run(to(node, "refresh"))
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: "asked to fetch its configuration: `compute_ctl status --watch` shows the rest\n"
    })
    expect((await node.external("GET /status")).json).toMatchObject({ status: "refresh_configuration_pending" })
    await using ended = await start({ events: eventsTo.terminated })
    expect(await run(to(ended, "refresh", "--json"))).toEqual({
      code: 1,
      stdout: "",
      stderr:
        "compute_ctl refresh: 500 Internal Server Error: Cannot refresh compute configuration in state Terminated\n"
    })
  })

  it("terminate ends the node in the mode that was asked for", async () => {
    await using node = await start()
    expect(await run(to(node, "terminate", "--mode", "immediate"), { env: authorized })).toEqual({
      code: 0,
      stdout: "Postgres is down\n",
      stderr: ""
    })
    expect((await node.external("GET /status")).json).toMatchObject({ status: "termination_pending_immediate" })
    await using other = await start()
    const { stdout } = await run(to(other, "terminate", "--json"), { env: authorized })
    expect(JSON.parse(stdout)).toEqual({ lsn: null })
    expect((await other.external("GET /status")).json).toMatchObject({ status: "termination_pending_fast" })
  })

  it("configure sends a spec or a whole document, from a file or standard input, and tells what the node says", async () => {
    await using node = await start()
    const misspelt = { ...configuration.spec, format_version: "one" }
    const refusal = expect.stringMatching(
      /^compute_ctl configure: 422 Unprocessable Entity: .*spec\.format_version[^\n]*\n$/u
    )
    const bare = JSON.stringify(misspelt)
    const whole = JSON.stringify({ ...configuration, spec: misspelt })
    for (const [path, input] of [
      [file("bare.json", bare), ""],
      [file("whole.json", whole), ""],
      ["-", whole]
    ] as const) {
      const ended = await run(to(node, "configure", path), { env: authorized, input })
      expect(ended, path).toEqual({ code: 1, stdout: "", stderr: refusal })
    }
    await using server = await scripted((response, _, request) => {
      request.resume().once("end", () => json(response, 200, status("running")))
    })
    const applied = await run(["configure", file("good.json", bare), "--url", server.url])
    expect(applied).toMatchObject({ code: 0, stdout: expect.stringMatching(/^applied in \d+[^\n]*\nrunning\n/u) })
    expect(server.seen).toEqual(["POST /configure"])
  })

  it("configure says what is wrong with a file", async () => {
    for (const [path, input, problem] of [
      ["/nonexistent", "", "/nonexistent: cannot be read: no such file or directory"],
      ["-", '{"spec":', "standard input: EOF while parsing a value at line 1 column 9"],
      ["-", "[]", "standard input: Expected an object"]
    ] as const) {
      expect(await run(["configure", path], { input })).toEqual({
        code: 1,
        stdout: "",
        stderr: `compute_ctl configure: ${problem}\n`
      })
    }
  })

  it("tell a refusal in one line with its status, and what may help", async () => {
    await using node = await start()
    expect(await run(to(node, "status"))).toEqual({
      code: 1,
      stdout: "",
      stderr:
        "compute_ctl status: 400 Bad Request: invalid authorization token (give one with --token or in COMPUTE_CTL_TOKEN)\n"
    })
    expect(await run(to(node, "timeline", "--token=no.good.token"))).toEqual({
      code: 1,
      stdout: "",
      stderr: "compute_ctl timeline: 401 Unauthorized: failed to verify authorization token\n"
    })
    const url = await deserted()
    const { code, stderr } = await run(["reconcile", "--url", url])
    expect(code).toBe(1)
    expect(stderr).toBe(
      `compute_ctl reconcile: ${url} cannot be reached: connect ECONNREFUSED ${url.slice("http://".length)}\n`
    )
  })

  it("write no colours into a pipe, and nothing of the node's that acts on a terminal", async () => {
    await using server = await scripted((response) => json(response, 200, status("failed", "\u001b[2Jgone")))
    const { stdout } = await run(["status", "--url", server.url])
    expect(stdout).not.toContain("\u001b")
    expect(stdout).toContain("\\u001b[2Jgone")
    await using refusing = await scripted((response) => json(response, 500, { error: "\u001b[2Jgone" }))
    expect((await run(["status", "--url", refusing.url])).stderr).toBe(
      "compute_ctl status: 500 Internal Server Error: \\u001b[2Jgone\n"
    )
  })

  it("a usage error is one line, exit code 2; help is printed, exit code 0", async () => {
    for (const args of [["status", "--nonsense"], ["configure"], ["terminate", "--mode=slow"], ["stauts"]]) {
      const { code, stderr, stdout } = await run(args)
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" })
      expect(stderr).toMatch(/^compute_ctl: [^\n]+\n$/u)
    }
    for (const { help, name } of operatorCommands) {
      expect(await run([name, "--help"])).toMatchObject({ code: 0, stdout: expect.stringContaining(help), stderr: "" })
    }
  })

  describe("status --watch", () => {
    it("shows each change once, and ends with 0 when the node is terminated", async () => {
      await using node = await start()
      const steps = [
        ["empty\n", ["startup_begins"]],
        ["init\n", ["startup_succeeded"]],
        ["running\n", ["terminate_fast", "stopped"]]
      ] as const
      let step = 0
      const { code, stderr, stdout } = await run(to(node, "status", "--watch"), {
        env: authorized,
        onOutput: (seen) => {
          const [text, events] = steps[step] ?? ["", []]
          if (text === "" || !seen.includes(text)) return undefined
          step++
          void node.fire(...events)
          return undefined
        }
      })
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
      expect(stdout.split("\n").filter((line) => /^[a-z]/u.test(line))).toEqual([
        "empty",
        "init",
        "running",
        "terminated",
        "the node is terminated"
      ])
    })

    it("ends with 0 on Ctrl-C; as JSON a document a line", async () => {
      await using node = await start({ events: ["startup_begins"] })
      const ended = await run(to(node, "status", "--watch", "--json"), {
        env: authorized,
        onOutput: (seen) => (seen.includes("\n") ? "SIGINT" : undefined)
      })
      expect(ended).toMatchObject({ code: 0, stderr: "" })
      const lines = ended.stdout.trimEnd().split("\n")
      expect(lines.map((line) => JSON.parse(line))).toEqual([(await node.external("GET /status")).json])
    })

    it("says that the node is gone", async () => {
      const node = await start({ events: ["startup_begins"] })
      const { code, stdout } = await run(to(node, "status", "--watch"), {
        env: authorized,
        onOutput: (seen) => {
          if (seen.includes("init")) void node.close()
          return undefined
        }
      })
      expect(code).toBe(0)
      expect(stdout).toMatch(/\nthe node is gone, it was init before: [^\n]+\n$/u)
    })

    it("fails where no node answers at all", async () => {
      const { code, stdout } = await run(["status", "--watch", "--url", await deserted()])
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
    })
  })
})
