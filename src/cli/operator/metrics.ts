/** Metrics in the text format of Prometheus: read, and shown to people. */
import { oneLine } from "../printable.ts"
import { columns, duration } from "./terminal.ts"

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface Family {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly samples: ReadonlyArray<Sample>
}

const special: Readonly<Record<string, number>> = { "+Inf": Number.POSITIVE_INFINITY, "-Inf": Number.NEGATIVE_INFINITY }

const unescaped = (text: string): string => text.replace(/\\(.)/gu, (_, letter) => (letter === "n" ? "\n" : letter))

const labelsOf = (text: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    [...text.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/gu)].map(([, name = "", value = ""]) => [
      name,
      unescaped(value)
    ])
  )

/** The samples of a text, under their families and in its order. */
export const parseMetrics = (text: string): ReadonlyArray<Family> => {
  const families = new Map<string, { type: string; help: string; samples: Array<Sample> }>()
  const family = (name: string) => {
    const found = families.get(name) ?? { type: "untyped", help: "", samples: [] }
    families.set(name, found)
    return found
  }
  for (const line of text.split("\n")) {
    const [, word, about = "", rest = ""] = /^# (HELP|TYPE) (\S+) ?(.*)$/u.exec(line) ?? []
    if (word === "HELP") family(about).help = unescaped(rest)
    else if (word === "TYPE") family(about).type = rest
    const [, name, labels = "", value = ""] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$/u.exec(line) ?? []
    if (name === undefined) continue
    const stem = name.replace(/_(?:bucket|sum|count)$/u, "")
    const owner = families.get(stem)?.type === "histogram" ? stem : name
    family(owner).samples.push({ name, labels: labelsOf(labels), value: special[value] ?? Number(value) })
  }
  return [...families].map(([name, rest]) => ({ name, ...rest }))
}

const series = (name: string, labels: Readonly<Record<string, string>>): string => {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}=${JSON.stringify(value)}`)
  return oneLine(pairs.length === 0 ? name : `${name}{${pairs.join(",")}}`)
}

/** How often and how much on average, for each set of labels. */
const histogramRows = ({ name, samples }: Family): ReadonlyArray<ReadonlyArray<string>> => {
  const sums = new Map(
    samples.filter((sample) => sample.name === `${name}_sum`).map(({ labels, value }) => [series(name, labels), value])
  )
  return samples
    .filter((sample) => sample.name === `${name}_count`)
    .map(({ labels, value: count }) => {
      const key = series(name, labels)
      const mean = count === 0 ? 0 : (sums.get(key) ?? 0) / count
      const shown = name.endsWith("_seconds") ? duration(mean * 1000) : String(mean)
      return [key, String(count), count === 0 ? "" : `mean ${shown}`]
    })
}

const plainRows = ({ samples }: Family): ReadonlyArray<ReadonlyArray<string>> =>
  samples.map(({ labels, name, value }) => [series(name, labels), String(value), ""])

export const showMetrics = (families: ReadonlyArray<Family>): ReadonlyArray<string> =>
  columns(
    families.flatMap((family) => (family.type === "histogram" ? histogramRows(family) : plainRows(family))),
    [1]
  )
