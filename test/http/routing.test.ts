import { describe, expect, it } from "@effect/vitest"
import * as ApiTables from "../../build/apiTables.ts"
import { raw, request, start } from "./harness.ts"

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/u

describe("paths and methods", () => {
  it("S-053 each route exists on one server only", async () => {
    await using node = await start()
    const external = [
      "GET /metrics",
      "GET /autoscaling_metrics",
      "GET /status",
      "GET /metrics.json",
      "GET /timeline",
      "GET /reconcile",
      "POST /configure",
      "POST /terminate",
      "POST /promote",
      "GET /lfc/prewarm",
      "POST /lfc/prewarm",
      "DELETE /lfc/prewarm",
      "GET /lfc/offload",
      "POST /lfc/offload",
      "POST /check_writability",
      "GET /database_schema",
      "GET /dbs_and_roles",
      "GET /insights",
      "GET /hadron_liveness_probe",
      "GET /healthz",
      "GET /readyz",
      "GET /openapi.json",
      "GET /docs"
    ]
    const internal = ["POST /extension_server/x", "POST /extensions", "POST /grants", "POST /refresh_configuration"]
    for (const what of external) {
      expect((await request(node.externalPort, what)).status, what).not.toBe(404)
      expect((await node.internal(what)).status, what).toBe(404)
    }
    for (const what of internal) {
      expect((await node.internal(what)).status, what).not.toBe(404)
      expect((await node.external(what)).status, what).toBe(404)
    }
  })

  it.each([
    ["external", "GET /nope"],
    ["external", "GET /"],
    ["external", "GET /status/"],
    ["external", "GET //status"],
    ["external", "GET /STATUS"],
    ["external", "GET /status;x=1"],
    ["external", "GET /status%2F"],
    ["external", "GET /status/x"],
    ["internal", "POST /failpoints"],
    ["internal", "GET /failpoints"],
    ["internal", "POST /extension_server"],
    ["internal", "POST /extension_server/"],
    ["internal", "GET /extension_server/"],
    ["internal", "POST /extension_server/?is_library=true"]
  ] as const)("%s %s is 404 with the JSON error body", async (server, what) => {
    await using node = await start()
    const reply = await node[server](what)
    expect(reply.status).toBe(404)
    expect(reply.json).toEqual({ error: "not found" })
    expect(reply.headers["content-type"]).toBe("application/json")
  })

  it.each([
    ["external", "PUT /status", "GET,HEAD"],
    ["external", "OPTIONS /status", "GET,HEAD"],
    ["external", "POST /status?x", "GET,HEAD"],
    ["external", "GET /configure", "POST"],
    ["external", "PATCH /lfc/prewarm", "GET,HEAD,POST,DELETE"],
    ["external", "DELETE /lfc/offload", "GET,HEAD,POST"],
    ["internal", "GET /grants", "POST"],
    ["internal", "HEAD /refresh_configuration", "POST"],
    ["internal", "GET /extension_server/a/b", "POST"]
  ] as const)("S-062 %s %s is 405 and names the methods", async (server, what, allow) => {
    await using node = await start()
    const reply = await node[server](what)
    expect(reply.status).toBe(405)
    expect(reply.headers.allow).toBe(allow)
    expect(reply.headers["content-type"]).toBe("application/json")
    if (!what.startsWith("HEAD")) expect(reply.json).toEqual({ error: "method not allowed" })
  })

  it("HEAD answers like GET, without the body", async () => {
    await using node = await start()
    const paths = ApiTables.external.filter(({ method }) => method === "GET").map(({ path }) => path)
    expect(paths.length).toBeGreaterThan(10)
    for (const path of paths) {
      const [get, head] = [await node.external(`GET ${path}`), await node.external(`HEAD ${path}`)]
      expect(head.status, path).toBe(get.status)
      expect(head.text, path).toBe("")
      expect(head.headers["content-type"], path).toBe(get.headers["content-type"])
      expect(head.headers["content-length"], path).toBe(get.headers["content-length"])
    }
  })

  it("a target in absolute form is the path in it", async () => {
    await using node = await start()
    const answer = await raw(
      node.externalPort,
      "GET http://compute:3080/metrics HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n"
    )
    expect(answer).toMatch(/^HTTP\/1\.1 200 /u)
    expect(answer).toContain("compute_ctl_up")
  })
})

describe("request id", () => {
  it("S-061 a given id comes back as it was, another one is made", async () => {
    await using node = await start()
    const given = await node.external("GET /status", { headers: { "x-request-id": "abc" } })
    expect(given.headers["x-request-id"]).toBe("abc")
    const made = await node.external("GET /status")
    expect(made.headers["x-request-id"]).toMatch(uuid)
    expect((await node.external("GET /status")).headers["x-request-id"]).not.toBe(made.headers["x-request-id"])
  })

  it("answers of every status carry it, on both servers", async () => {
    await using node = await start()
    const headers = { "x-request-id": "not a uuid; with spaces" }
    for (const what of ["GET /nope", "PUT /status", "GET /status", "POST /check_writability", "POST /configure"]) {
      expect((await request(node.externalPort, what, { headers })).headers["x-request-id"]).toBe(
        headers["x-request-id"]
      )
    }
    for (const what of ["GET /nope", "POST /grants", "POST /refresh_configuration"]) {
      expect((await node.internal(what, { headers })).headers["x-request-id"]).toBe(headers["x-request-id"])
    }
  })

  it("an empty id is kept", async () => {
    await using node = await start()
    const answer = await raw(
      node.externalPort,
      "GET /metrics HTTP/1.1\r\nhost: x\r\nx-request-id: \r\nconnection: close\r\n\r\n"
    )
    expect(answer).toMatch(/\r\nx-request-id: \r\n/iu)
  })
})

describe("access log", () => {
  it("a request is two lines, a failure of ours two more", async () => {
    const lines: Array<string> = []
    await using node = await start({ log: (line) => lines.push(line) })
    lines.length = 0
    await node.external("GET /status?x=1")
    expect(lines).toEqual(["Info GET /status?x=1", "Info "])
    lines.length = 0
    await node.external("POST /check_writability")
    expect(lines).toEqual(["Info POST /check_writability", "Error invalid compute status: empty", "Info "])
    lines.length = 0
    await node.internal("POST /refresh_configuration")
    expect(lines).toEqual([
      "Info POST /refresh_configuration",
      "Error Cannot refresh compute configuration in state Empty",
      "Info ",
      "Error response failed"
    ])
  })
})
