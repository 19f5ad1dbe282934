/** Watching on a terminal: a new state takes the place of the old one. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import { screen } from "../../../src/cli/operator/terminal.ts"
import { watch } from "../../../src/cli/operator/watch.ts"
import { ComputeClient } from "../../../src/http/Client.ts"
import { json, scripted, status } from "../../http/client/scripted.ts"

it("redraws the rows that the state before had taken, broken lines counted", async () => {
  const states = [status("init", "x".repeat(100)), status("init", "x".repeat(100)), status("terminated")]
  await using server = await scripted((response, turn) => json(response, 200, states[turn - 1]))
  const written: Array<string> = []
  const watching = Effect.flatMap(ComputeClient.make({ url: server.url }), (client) =>
    watch(client.status(), {
      screen: screen({ colours: true, columns: 40 }),
      redraw: true,
      json: false,
      write: (text) => void written.push(text)
    })
  )
  await Effect.runPromise(Effect.provide(watching, FetchHttpClient.layer))
  expect(server.seen).toHaveLength(3)
  expect(written).toHaveLength(3)
  const [first = "", second = "", last] = written
  expect(first.startsWith("\u001b[33minit")).toBe(true)
  // One row for the status, one for the time, three for the error.
  expect(second.startsWith("\u001b[5A\u001b[J")).toBe(true)
  expect(second).toContain("terminated")
  expect(last).toBe("the node is terminated\n")
})
