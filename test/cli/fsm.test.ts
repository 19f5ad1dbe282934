import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, describe, expect, it } from "@effect/vitest"
import { root } from "../../build/inputs.ts"
import { ComputeEvent, ComputeStatus, edges, next } from "../../src/domain/ComputeStatus.ts"

const run = (...args: ReadonlyArray<string>): string =>
  execFileSync(join(root, "bin/compute_ctl"), [...args], { encoding: "utf8", env: { PATH: "/usr/bin:/bin" } })

describe("compute_ctl fsm, as built", () => {
  beforeAll(() => void execFileSync(process.execPath, [join(root, "build/ensure.ts")]))

  it("prints the diagram that the documentation shows", () => {
    expect(readFileSync(join(root, "docs/state-machine.md"), "utf8")).toContain(`\`\`\`mermaid\n${run("fsm")}\`\`\``)
  })

  it("prints every edge for programs, by which the machine can be built anew", () => {
    const document: {
      readonly initial: string
      readonly final: ReadonlyArray<string>
      readonly statuses: ReadonlyArray<{ readonly name: string }>
      readonly events: ReadonlyArray<{ readonly name: string }>
      readonly edges: typeof edges
    } = JSON.parse(run("fsm", "--json"))
    expect(document.statuses.map(({ name }) => name)).toEqual(ComputeStatus.literals)
    expect(document.events.map(({ name }) => name)).toEqual(ComputeEvent.literals)
    expect(document.edges).toEqual(edges)
    for (const { event, from, to } of document.edges) expect(next(from, event)).toBe(to)
    expect(document.edges.filter(({ from }) => document.final.includes(from))).toEqual([])
    const reached = new Set([document.initial])
    for (const status of reached) {
      for (const { from, to } of document.edges) if (from === status) reached.add(to)
    }
    expect(reached.size).toBe(document.statuses.length)
  })
})
