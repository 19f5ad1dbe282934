import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { describe, expect, it } from "@effect/vitest"
import * as ApiTables from "../../build/apiTables.ts"
import { root } from "../../build/inputs.ts"
import * as OpenApi from "../../build/openapi.ts"
import { request, start } from "./harness.ts"
import { open } from "./page.ts"

const text = readFileSync(OpenApi.file, "utf8")
const document = JSON.parse(text)

describe("openapi.json", () => {
  it("is what the definitions say: npm run build", () => {
    expect(OpenApi.problem()).toBeUndefined()
  })

  it("is compared by npm run check, before a build could write it", async () => {
    const { scripts }: { readonly scripts: Readonly<Record<string, string>> } = JSON.parse(
      readFileSync(join(root, "package.json"), "utf8")
    )
    const command = "sh scripts/node build/openapi.ts --check"
    expect(scripts["check"]).toContain(command)
    expect(scripts["test"]).toMatch(/^npm run check && npm run build && /u)
    await promisify(execFile)("sh", ["-c", command], { cwd: root })
  })

  it("has every route of both servers", () => {
    const routes = (server: "external" | "internal") =>
      Object.keys(document.paths)
        .filter((path) => ("servers" in document.paths[path] ? "internal" : "external") === server)
        .flatMap((path) =>
          Object.keys(document.paths[path])
            .filter((member) => member !== "servers")
            .map((method) => `${method.toUpperCase()} ${path.replace("{filename}", "*")}`)
        )
    const expected = (tables: typeof ApiTables.external) => tables.map(({ method, path }) => `${method} ${path}`)
    expect(routes("external").sort()).toEqual([...expected(ApiTables.external)].sort())
    expect(routes("internal").sort()).toEqual([...expected(ApiTables.internal)].sort())
  })

  it("refers only to schemas that it has, and has no operation twice", () => {
    const names = Object.keys(document.components.schemas)
    for (const [, name] of text.matchAll(/"#\/components\/schemas\/([^"]+)"/gu)) expect(names).toContain(name)
    const ids = [...text.matchAll(/"operationId": "([^"]+)"/gu)].map(([, id]) => id)
    expect(new Set(ids).size).toBe(ids.length)
    expect(ids.length).toBeGreaterThan(20)
  })

  it("does not forbid what the servers ignore", () => {
    expect(text).not.toMatch(/"additionalProperties": false/u)
  })
})

describe("GET /openapi.json", () => {
  it("is that file, without a token, also for HEAD", async () => {
    await using node = await start({ keys: [] })
    const get = await request(node.externalPort, "GET /openapi.json")
    expect([get.status, get.headers["content-type"], get.text === text]).toEqual([200, "application/json", true])
    const head = await request(node.externalPort, "HEAD /openapi.json")
    expect([head.status, head.text]).toEqual([200, ""])
    expect(head.headers["content-length"]).toBe(get.headers["content-length"])
    expect((await node.internal("GET /openapi.json")).status).toBe(404)
  })
})

describe("GET /docs", () => {
  it("is a page that a strict policy lets run, and that loads nothing from elsewhere", async () => {
    await using node = await start({ keys: [] })
    const page = await request(node.externalPort, "GET /docs")
    expect([page.status, page.headers["content-type"]]).toEqual([200, "text/html; charset=utf-8"])
    expect(page.headers["content-security-policy"]).toMatch(
      /^default-src 'none'; script-src 'sha256-[\w+/]{43}='; style-src 'sha256-[\w+/]{43}='; connect-src 'self'; /u
    )
    expect(page.text.match(/<script/gu)).toHaveLength(1)
    expect(page.text.match(/<style/gu)).toHaveLength(1)
    // What the policy would refuse.
    expect(page.text).not.toMatch(/\s(?:style|on\w+)=|https?:|\bsrc=|innerHTML|\beval\b/u)
    expect(page.text).toContain('fetch("openapi.json")')
  })

  const html = () => readFileSync(join(root, "src/http/docs/docs.html"), "utf8")
  const answer = { ok: true, status: 200, json: () => document }

  it("shows every route and every schema, with links that lead somewhere", async () => {
    const page = await open(html(), answer)
    const routes = text.match(/"operationId": /gu) ?? []
    const titles = page.root.all.filter(({ name }) => name === "article").map(({ attributes }) => attributes.get("id"))
    expect(titles).toHaveLength(routes.length + Object.keys(document.components.schemas).length)
    expect(new Set(titles).size).toBe(titles.length)
    for (const { attributes } of page.root.all) {
      const target = attributes.get("href")
      if (target?.startsWith("#") === true) expect(page.byId(target.slice(1)), target).toBeDefined()
    }
    expect(page.text("state")).toBe(`${routes.length} routes`)
    const configure = page.text("post--configure")
    expect(configure).toContain(`-d @body.json 'http://node:1/configure'`)
    expect(configure).toContain("412Not in this status of the compute")
    expect(page.text("post--refresh-configuration")).toContain(
      "curl -X POST 'http://localhost:3081/refresh_configuration'"
    )
    expect(page.text("schema-ComputeStatusResponse")).toContain("last_activestring | null")
  })

  it("shows only what the filter asks for", async () => {
    const page = await open(html(), answer)
    page.byId("filter")?.listeners.get("input")?.({ target: { value: "LFC delete" } })
    expect(page.text("state")).toMatch(/^1 of \d+ routes$/u)
    expect(page.byId("delete--lfc-prewarm")?.hidden).toBe(false)
    expect(page.byId("get--status")?.hidden).toBe(true)
  })

  it("says when there is nothing to show", async () => {
    const page = await open(html(), { ok: false, status: 500, json: () => document })
    expect(page.text("state")).toBe("openapi.json cannot be shown: it was answered with 500")
    expect(page.byId("state")?.attributes.get("role")).toBe("alert")
  })
})
