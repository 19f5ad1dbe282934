import { describe, expect, it } from "@effect/vitest"
import { jsonBody, start } from "./harness.ts"

describe("POST /failpoints", () => {
  const enabled = { params: { failpoints: [] } }

  it("takes points in their order, up to the first that is malformed", async () => {
    const lines: Array<string> = []
    await using node = await start({ ...enabled, log: (line) => lines.push(line) })
    const reply = await node.internal(
      "POST /failpoints",
      jsonBody([
        { name: "start_compute", actions: "1*return(a)->off" },
        { name: "refresh-after-fetch", actions: "sleep(x)" },
        { name: "get_basebackup", actions: "off" }
      ])
    )
    expect([reply.status, reply.json]).toEqual([
      400,
      { error: "failed to configure failpoints: sleep wants milliseconds, as sleep(100)" }
    ])
    expect(lines).toContain("Info cfg failpoint: start_compute 1*return(a)->off")
    expect(lines.join("\n")).not.toContain("get_basebackup")
  })

  it("answers 200 without a body; a name that nothing passes is told in the log", async () => {
    const lines: Array<string> = []
    await using node = await start({ ...enabled, log: (line) => lines.push(line) })
    const reply = await node.internal("POST /failpoints", jsonBody([{ name: "compute-prewarm", actions: "pause" }]))
    expect([reply.status, reply.text, reply.headers["content-type"]]).toEqual([200, "", undefined])
    expect(lines).toContainEqual(expect.stringMatching(/^Warn nothing passes a failpoint of this name; there are /u))
  })

  it.each([
    [422, jsonBody([{ name: "a", action: "off" }])],
    [422, jsonBody({ name: "a", actions: "off" })],
    [400, jsonBody("[")],
    [415, { body: "[]" }]
  ])("a bad body is %i", async (status, call) => {
    await using node = await start(enabled)
    const reply = await node.internal("POST /failpoints", call)
    expect([reply.status, reply.json]).toEqual([status, { error: expect.any(String) }])
  })

  it("is on the internal server alone", async () => {
    await using node = await start(enabled)
    expect((await node.internal("GET /failpoints")).status).toBe(405)
    expect((await node.external("POST /failpoints", jsonBody([]))).status).toBe(404)
  })
})
