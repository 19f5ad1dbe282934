import * as Http from "node:http"
import { describe, expect, it } from "@effect/vitest"
import { problem, problems } from "../support/contract.ts"
import { type Exchange, ours, take } from "../support/exchanges.ts"
import { request, start } from "./harness.ts"

const status = { start_time: "", tenant: null, timeline: null, status: "empty", last_active: null, error: null }
const json = { "content-type": "application/json", "x-request-id": "a" }

const exchange = (what: string, status: number, body: unknown, more: Partial<Exchange> = {}): Exchange => ({
  server: "external",
  what,
  status,
  headers: json,
  text: typeof body === "string" ? body : JSON.stringify(body),
  ...more
})

describe("an answer that openapi.json promises is no problem", () => {
  it.each([
    ["of a route", exchange("GET /status?x=1", 200, status)],
    ["an error of a route", exchange("POST /configure", 412, { error: "" })],
    ["its error with members of its own", exchange("POST /promote", 500, { status: "failed", error: "" })],
    [
      "a text",
      exchange("GET /metrics", 200, "x", { headers: { ...json, "content-type": "text/plain; version=0.0.4" } })
    ],
    ["what is called JSON and is none", exchange("GET /database_schema?database=a", 200, "-- PostgreSQL")],
    ["without a body", exchange("POST /lfc/offload", 202, "", { headers: { "x-request-id": "a" } })],
    [
      "of another service that is asked",
      exchange("GET /autoscaling_metrics", 503, "not yet", { headers: { ...json, "content-type": "text/plain" } })
    ],
    ["to HEAD", exchange("HEAD /status", 200, "")],
    ["an error to HEAD", exchange("HEAD /status", 401, "")],
    ["no such path", exchange("GET /nope", 404, { error: "" })],
    ["of the other server", exchange("POST /grants", 404, { error: "" })],
    [
      "of a wildcard",
      exchange("POST /extension_server/a/b?is_library=true", 409, { error: "" }, { server: "internal" })
    ],
    ["no such method", exchange("PUT /status", 405, { error: "" }, { headers: { ...json, allow: "GET,HEAD" } })],
    ["the end of the server", exchange("GET /status", 503, { error: "shutting down" })],
    ["a broken request", exchange("GET /nope", 431, { error: "request header fields too large" })]
  ])("%s", (_name, answer) => {
    expect(problem(answer)).toBeUndefined()
  })
})

describe("an answer that openapi.json does not promise is reported", () => {
  const { error: _dropped, ...incomplete } = status
  it.each([
    ["an undeclared status", exchange("GET /status", 202, status), "status 202 is not declared"],
    ["a defect", exchange("GET /status", 500, { error: "internal error" }), "status 500 is not declared"],
    ["a 503 for another reason", exchange("GET /status", 503, { error: "later" }), "status 503 is not declared"],
    ["a missing member", exchange("GET /status", 200, incomplete), "body must have required property 'error'"],
    [
      "a member too many",
      exchange("GET /status", 200, { ...status, password: "" }),
      "body must NOT have additional properties"
    ],
    ["another type", exchange("GET /status", 200, { ...status, start_time: 7 }), "body/start_time must be string"],
    ["a word that is none of those", exchange("POST /check_writability", 200, "1"), "body must be boolean"],
    ["no JSON", exchange("GET /status", 200, "{"), "the body is no JSON"],
    [
      "another content type",
      exchange("GET /status", 200, status, { headers: { ...json, "content-type": "text/plain" } }),
      "content type text/plain, not application/json"
    ],
    [
      "a body where there is none",
      exchange("POST /lfc/offload", 202, "{}", { headers: { "x-request-id": "a" } }),
      "a body where none is declared"
    ],
    ["a body for HEAD", exchange("HEAD /status", 200, status), "a body for HEAD"],
    ["an error with more than that", exchange("GET /status", 401, { error: "", code: 1 }), /additional properties/u],
    ["a path that is not there", exchange("GET /nope", 200, status), "status 200 where no route is, not 404"],
    ["a method that is not there", exchange("PUT /status", 404, { error: "" }), /404 where no route is, not 405/u],
    ["405 without the methods", exchange("PUT /status", 405, { error: "" }), "405 that does not say what is allowed"],
    [
      "another error body",
      exchange("GET /nope", 404, { error: "", path: "" }),
      "the body is not the JSON error body alone"
    ],
    [
      "an error as text",
      exchange("GET /nope", 404, "not found", { headers: { ...json, "content-type": "text/plain" } }),
      "content type text/plain of an error"
    ],
    ["no request id", exchange("GET /status", 200, status, { headers: { "content-type": "application/json" } }), /id/u]
  ])("%s", (_name, answer, expected) => {
    expect(problem(answer)).toMatch(expected)
    expect(problems([answer])).toEqual([expect.stringContaining(`external ${answer.what}: `)])
  })
})

describe("the tests", () => {
  it("write down what a server of ours says", async () => {
    await using node = await start()
    await node.external("GET /status")
    await node.internal("GET /nope")
    const seen = take()
    expect(seen.map(({ server, status, what }) => [server, what, status])).toEqual([
      ["external", "GET /status", 200],
      ["internal", "GET /nope", 404]
    ])
    expect(problems(seen)).toEqual([])
  })

  it("notice a server that says something else", async () => {
    const liar = Http.createServer((_request, response) => response.writeHead(200, json).end('{"status":"fine"}'))
    await new Promise<void>((listening) => liar.listen(0, "127.0.0.1", listening))
    const address = liar.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    const stranger = ours(port, "external")
    await request(port, "GET /status")
    stranger()
    await request(port, "GET /status?not=ours")
    liar.close()
    expect(problems(take())).toEqual([
      expect.stringMatching(/^external GET \/status: body must have required property/u)
    ])
  })
})
