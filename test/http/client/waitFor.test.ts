import { describe, expect, it } from "@effect/vitest"
import { ComputeStatus, edges, reachableFrom } from "../../../src/domain/ComputeStatus.ts"
import { ComputeClient, StatusUnattainable, Unauthorized, Unreachable, WaitTimeout } from "../../../src/http/Client.ts"
import { eventsTo, ownToken, start } from "../harness.ts"
import { deserted, json, scripted, status } from "./scripted.ts"

const clientOf = (node: Awaited<ReturnType<typeof start>>) =>
  ComputeClient.connect({ url: `http://127.0.0.1:${node.externalPort}`, token: ownToken })

const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    (value) => Promise.reject(new Error(`it was resolved: ${JSON.stringify(value)}`)),
    (error: unknown) => error
  )

describe("waiting for a status", () => {
  it("ends with the answer that has it", async () => {
    await using node = await start({ events: ["startup_begins"] })
    const running = clientOf(node).waitFor("running", { timeout: "20 seconds" })
    await node.fire("startup_succeeded")
    expect(await running).toEqual((await node.external("GET /status")).json)
  })

  it("tells what there is instead when time is up", async () => {
    await using node = await start({ events: ["startup_begins"] })
    const error = await rejection(clientOf(node).waitFor("running", { timeout: "100 millis" }))
    expect(error).toBeInstanceOf(WaitTimeout)
    expect(error).toMatchObject({
      wanted: "running",
      seen: { status: "init" },
      message: "it did not become running in time: the node is init"
    })
  })

  it.each(["terminated", "termination_pending_fast", "termination_pending_immediate"] as const)(
    "running is not waited for in %s",
    async (ending) => {
      await using node = await start({ events: eventsTo[ending] })
      const error = await rejection(clientOf(node).waitFor("running"))
      expect(error).toBeInstanceOf(StatusUnattainable)
      expect(error).toMatchObject({ wanted: "running", seen: { status: ending } })
    }
  )

  it("empty is not waited for where it is over", async () => {
    await using node = await start({ events: ["startup_begins"] })
    expect(await rejection(clientOf(node).waitFor("empty"))).toBeInstanceOf(StatusUnattainable)
  })

  it("a node that fails ends the wait with the reason, unless it will be helped", async () => {
    await using server = await scripted((response, turn) =>
      json(response, 200, turn > 2 ? status("running") : status("failed", "no safekeepers\n\nCaused by: nothing"))
    )
    const client = ComputeClient.connect({ url: server.url })
    const error = await rejection(client.waitFor("running"))
    expect(error).toBeInstanceOf(StatusUnattainable)
    expect(error).toMatchObject({
      message: "it will not become running: the node is failed: no safekeepers\n\nCaused by: nothing"
    })
    expect(await client.waitFor("running", { evenIfFailed: true })).toEqual(status("running"))
  })

  it("a failed node is waited for at its end", async () => {
    await using node = await start({ events: eventsTo.failed })
    const ended = clientOf(node).waitFor("terminated")
    await node.fire("terminate_immediate", "stopped")
    expect(await ended).toMatchObject({ status: "terminated" })
  })

  it("a node that does not listen yet is waited for", async () => {
    await using server = await scripted((response, turn) => {
      if (turn < 3) response.destroy()
      else json(response, 200, status("running"))
    })
    expect(await ComputeClient.connect({ url: server.url }).waitFor("running")).toEqual(status("running"))
    const error = await rejection(ComputeClient.connect({ url: await deserted() }).waitFor("running", { timeout: 200 }))
    expect(error).toBeInstanceOf(WaitTimeout)
    expect(error).toMatchObject({ message: "it did not become running in time: nobody answers there" })
  })

  it("a node that is gone ends the wait", async () => {
    await using node = await start({ events: ["startup_begins"] })
    const waiting = rejection(clientOf(node).waitFor("running", { timeout: "20 seconds" }))
    await new Promise((looked) => setTimeout(looked, 200))
    await node.close()
    const error = await waiting
    expect(error).toBeInstanceOf(Unreachable)
    expect(error).toMatchObject({ message: expect.stringContaining("the node is gone, it was init before") })
  })

  it("a token that is refused ends the wait", async () => {
    await using node = await start()
    const client = ComputeClient.connect({ url: `http://127.0.0.1:${node.externalPort}`, token: "no.good.token" })
    expect(await rejection(client.waitFor("running"))).toBeInstanceOf(Unauthorized)
  })
})

describe("reachability", () => {
  it("agrees with walks along the edges", () => {
    for (const from of ComputeStatus.literals) {
      const reachable = reachableFrom(from)
      expect(reachable.has(from)).toBe(true)
      for (const edge of edges) if (reachable.has(edge.from)) expect(reachable.has(edge.to)).toBe(true)
      const entered = new Set(edges.filter((edge) => reachable.has(edge.from)).map(({ to }) => to))
      for (const status of reachable) expect(status === from || entered.has(status)).toBe(true)
    }
    expect([...reachableFrom("terminated")]).toEqual(["terminated"])
    expect(reachableFrom("failed").has("running")).toBe(true)
  })
})
