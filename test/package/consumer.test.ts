/** The package as others see it: what `npm run build` made, imported by name from a project of its own. */
import { execFile } from "node:child_process"
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { gzipSync } from "node:zlib"
import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import * as esbuild from "esbuild"
import { root } from "../../build/inputs.ts"
import { ownToken, start } from "../http/harness.ts"

const run = promisify(execFile)

describe("a project that has installed the package", () => {
  let project = ""
  const node = (...args: ReadonlyArray<string>) => run(process.execPath, [...args], { cwd: project })

  beforeAll(async () => {
    await run(process.execPath, [join(root, "build/ensure.ts")], { cwd: "/" })
    project = mkdtempSync(join(tmpdir(), "compute_ctl-consumer-"))
    cpSync(join(import.meta.dirname, "consumer"), project, { recursive: true })
    const installed = join(project, "node_modules")
    mkdirSync(join(installed, "compute-ctl"), { recursive: true })
    mkdirSync(join(installed, "@types"))
    // Without the sources: nothing may lead to them.
    for (const part of ["package.json", "dist"]) {
      cpSync(join(root, part), join(installed, "compute-ctl", part), { recursive: true })
    }
    for (const name of ["effect", "@types/node"]) symlinkSync(join(root, "node_modules", name), join(installed, name))
  })
  afterAll(() => rmSync(project, { recursive: true, force: true }))

  it("passes the strictest check of types, with those of the declarations, the examples of README.md too", async () => {
    const examples = [...readFileSync(join(root, "README.md"), "utf8").matchAll(/^```ts\n([\s\S]*?)^```$/gmu)]
    expect(examples.length).toBeGreaterThan(1)
    for (const [index, [, text = ""]] of examples.entries()) writeFileSync(join(project, `example-${index}.ts`), text)
    const { stdout } = await node(join(root, "node_modules/typescript/bin/tsc"), "-p", ".")
    expect(stdout).toBe("")
  })

  it("runs with promises", async () => {
    await using compute = await start({ events: ["startup_begins", "startup_succeeded"] })
    const urls = [compute.externalPort, compute.internalPort].map((port) => `http://127.0.0.1:${port}`)
    const { stdout } = await node("promises.ts", ...urls, ownToken)
    expect(JSON.parse(stdout)).toEqual({
      status: "running",
      refused: "BadRequest",
      after: "refresh_configuration_pending",
      grant: "PreconditionFailed",
      lsn: "0/28F10D8",
      unused: 3
    })
  })

  it("runs with effects, over the same Effect", async () => {
    await using compute = await start({ events: ["startup_begins"] })
    const { stdout } = await node("effects.ts", `http://127.0.0.1:${compute.externalPort}`, ownToken)
    expect(JSON.parse(stdout)).toEqual({
      status: "init",
      refused: expect.stringMatching(/^bad: /u),
      gone: "StatusUnattainable"
    })
  })
})

describe("the client in a browser", () => {
  it("needs no module of Node, and is small", async () => {
    const built = await esbuild.build({
      stdin: {
        contents: 'import { ComputeClient } from "compute-ctl/client"; globalThis.connect = ComputeClient.connect',
        resolveDir: root
      },
      bundle: true,
      minify: true,
      platform: "browser",
      format: "esm",
      write: false,
      metafile: true,
      logLevel: "silent"
    })
    const [file] = built.outputFiles
    const bytes = file?.contents ?? new Uint8Array()
    const gzipped = gzipSync(bytes).length
    process.stdout.write(`client for browsers: ${bytes.length} bytes, ${gzipped} with gzip\n`)
    const imports = Object.values(built.metafile.inputs).flatMap((input) => input.imports)
    expect(imports.filter(({ external, path }) => external === true || path.startsWith("node:"))).toEqual([])
    const ours = Object.keys(built.metafile.inputs).filter((path) => path.startsWith("dist/"))
    for (const path of ours)
      expect(path).toMatch(/^dist\/modules\/(?:domain|http\/api|http\/client)\/|\/http\/Client\.js$/u)
    expect(Object.keys(built.metafile.inputs).filter((path) => /node_modules\/(?!effect\/)/u.test(path))).toEqual([])
    // 67 kB at the time of writing, two thirds of it the schemas of the API.
    expect(gzipped).toBeLessThan(80_000)
  })

  it("has no type in its declarations that only Node knows", () => {
    const folder = join(root, "dist/modules/http")
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".d.ts"))
    expect(files).toContain("Client.d.ts")
    for (const name of files)
      expect(readFileSync(join(folder, name), "utf8"), name).not.toMatch(/NodeJS|Buffer|"node:/u)
  })
})
