import { existsSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fleet from "../bench/fleet.ts"
import * as ApiTables from "../build/apiTables.ts"
import { withPart } from "../build/generated.ts"
import { root } from "../build/inputs.ts"
import { withTables } from "../build/optionTables.ts"
import * as StateMachine from "../build/stateMachine.ts"
import { edges, isEnding } from "../src/domain/ComputeStatus.ts"

const read = (path: string): string => readFileSync(join(root, path), "utf8")

const documents = ["README.md", ...readdirSync(join(root, "docs")).map((name) => join("docs", name))]

describe("what is generated is up to date", () => {
  it("README.md has a row for each option and variable: npm run docs:options", () => {
    const text = read("README.md")
    expect(text).toBe(withTables(text))
  })

  it("README.md has a row for each route: scripts/node build/apiTables.ts README.md", () => {
    const text = read("README.md")
    expect(text).toBe(withPart(text, ApiTables.part, ApiTables.apiTables()))
  })

  it.effect(
    "docs/refresh.md has the figures of the schedule that is used: scripts/node bench/fleet.ts docs/refresh.md",
    () =>
      Effect.map(Fleet.row(Fleet.ours), ({ cells }) => {
        expect(read("docs/refresh.md")).toContain(`| ${cells.join(" | ")} |`)
      })
  )

  it("docs/state-machine.md shows every edge: scripts/node build/stateMachine.ts docs/state-machine.md", () => {
    const text = read("docs/state-machine.md")
    expect(text).toBe(withPart(text, StateMachine.part, StateMachine.stateMachine()))
  })
})

describe("the page of the state machine", () => {
  it("has each edge in its table, those of every status in one row", () => {
    const rows = StateMachine.stateMachine().split("\n")
    for (const { event, from, to } of edges) {
      const found = rows.filter(
        (row) => row.endsWith(`| \`${event}\` | \`${to}\` |`) && row.split("|")[1]?.includes(`\`${from}\``)
      )
      expect(found, `${from} ${event}`).toHaveLength(1)
    }
  })

  it("has each edge in its diagram", () => {
    const arrows = StateMachine.stateMachine().match(/^ {4}\w+ --> \w+ : .+$/gmu) ?? []
    for (const { event, from, to } of edges) {
      const found = arrows.filter((arrow) =>
        (isEnding(from) ? [from] : [from, "alive"]).some((start) => {
          const [head = "", labels = ""] = arrow.split(" : ")
          return head.trim() === `${start} --> ${to}` && labels.split(", ").includes(event)
        })
      )
      expect(found, `${from} ${event}`).toHaveLength(1)
    }
  })
})

describe("the tables of routes", () => {
  it("say of no finished route that it answers 501", () => {
    const routes = [...ApiTables.external, ...ApiTables.internal]
    const finished = routes.filter((route) => !route.unfinished).map(({ method, path }) => `${method} ${path}`)
    for (const name of finished) expect(ApiTables.notes[name] ?? "works").not.toContain("501")
    for (const name of Object.keys(ApiTables.notes)) {
      expect(routes.map(({ method, path }) => `${method} ${path}`)).toContain(name)
    }
  })
})

const millisPer: Readonly<Record<string, number>> = {
  millis: 1,
  ms: 1,
  second: 1000,
  seconds: 1000,
  s: 1000,
  minutes: 60_000,
  min: 60_000
}

/** Milliseconds of a duration in the code, by its name: `name = Duration.seconds(5)`, `["NAME", "5 seconds"]`, `name = 5_000`. */
const constant = (source: string, name: string): number | undefined => {
  const value = /\s*(?:Duration\.(\w+)\((\d+)\)|"(\d+) (\w+)"|([\d_]+))/u.source
  const found = new RegExp(`\\b${name}"?\\s*[=:,]${value}`, "u").exec(source)
  if (found === null) return undefined
  const [, unit = found[4] ?? "ms", amount = found[3] ?? found[5] ?? ""] = found
  return Number(amount.replaceAll("_", "")) * (millisPer[unit] ?? Number.NaN)
}

describe("docs/operations.md", () => {
  const rows = [...read("docs/operations.md").matchAll(/^\| .+ \| (\d+) (\w+) \| `(src\/\S+)` `(\w+)` \|$/gmu)]

  it("names the deadlines as they are in the code", () => {
    expect(rows.length).toBeGreaterThan(20)
    for (const [, amount = "", unit = "", file = "", name = ""] of rows) {
      expect(constant(read(file), name), `${file} ${name}`).toBe(Number(amount) * (millisPer[unit] ?? Number.NaN))
    }
  })
})

describe("documents", () => {
  it("link only to what exists", () => {
    for (const document of documents) {
      for (const [, target = "", anchor] of read(document).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/gu)) {
        const path = target === "" ? join(root, document) : resolve(root, dirname(document), target)
        expect(existsSync(path), `${document}: ${target}`).toBe(true)
        if (anchor === undefined) continue
        const headings = [...readFileSync(path, "utf8").matchAll(/^#+ (.*)$/gmu)].map(([, heading = ""]) =>
          heading
            .toLowerCase()
            .replaceAll(/[^\w\- ]/gu, "")
            .replaceAll(" ", "-")
        )
        expect(headings, `${document}: ${target}#${anchor}`).toContain(anchor)
      }
    }
  })

  it("have tables whose rows are as long as their heads", () => {
    for (const document of documents) {
      for (const table of read(document).match(/(?:^\|.*\|\n)+/gmu) ?? []) {
        const [head = "", ...rest] = table.trimEnd().split("\n")
        const cells = (row: string): number => row.replaceAll("\\|", "").split("|").length
        for (const row of rest) expect(cells(row), `${document}: ${row}`).toBe(cells(head))
      }
    }
  })

  it("name in commands only scripts that package.json has", () => {
    const { scripts }: { readonly scripts: Readonly<Record<string, string>> } = JSON.parse(read("package.json"))
    for (const document of documents) {
      for (const [, name = ""] of read(document).matchAll(/npm run ([\w:]+)/gu)) {
        expect(Object.keys(scripts), `${document}: npm run ${name}`).toContain(name)
      }
    }
  })
})
