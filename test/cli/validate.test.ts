import { execFile } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { promisify } from "node:util"
import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"

const root = resolve(import.meta.dirname, "../..")
const good = join(root, "test/golden/specs/minimal.json")

const run = (...args: ReadonlyArray<string>) =>
  new Promise<{ readonly code: unknown; readonly stdout: string; readonly stderr: string }>((done) => {
    execFile(
      join(root, "bin/compute_ctl"),
      [...args],
      { cwd: "/", env: { PATH: "/usr/bin:/bin" } },
      (error, stdout, stderr) => done({ code: error?.code ?? 0, stdout, stderr })
    )
  })

describe("compute_ctl validate, as built", () => {
  let folder = ""
  let broken = ""
  beforeAll(async () => {
    await promisify(execFile)(process.execPath, [join(root, "build/ensure.ts")], { cwd: "/" })
    folder = mkdtempSync(join(tmpdir(), "compute_ctl-validate-"))
    broken = join(folder, "broken.json")
    writeFileSync(broken, readFileSync(good, "utf8").replace('"roles": []', '"roles": [{ "name": 7 }]'))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it("a good document is good, exit code 0", async () => {
    expect(await run("validate", "--config", good)).toEqual({ code: 0, stdout: `${good}: good\n`, stderr: "" })
    expect(await run("validate", "--config", good, "--json")).toEqual({
      code: 0,
      stdout: '{"valid":true}\n',
      stderr: ""
    })
  })

  it("a broken document names its field in one line, exit code 1", async () => {
    const { code, stderr, stdout } = await run("validate", "--config", broken)
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
    expect(stderr).toMatch(/^compute_ctl validate: \S+broken\.json: spec\.cluster\.roles\[0\]\.name: [^\n]+\n$/u)
    const json = await run("validate", "--config", broken, "--json")
    expect(json).toMatchObject({ code: 1, stderr: "" })
    expect(JSON.parse(json.stdout)).toMatchObject({ valid: false, field: "spec.cluster.roles[0].name" })
  })

  it("a usage error of either command is one line, exit code 2", async () => {
    for (const args of [["validate"], ["plan", "--config", good], ["plan", "--nonsense"]]) {
      const { code, stderr, stdout } = await run(...args)
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" })
      expect(stderr).toMatch(/^compute_ctl: [^\n]+\n$/u)
    }
  })
})
