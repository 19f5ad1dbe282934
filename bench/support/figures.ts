/** Samples by figure, and how they are shown. */

export type Unit = "ms" | "MiB" | "bytes" | "ratio" | "1/s" | ""

export interface Figure {
  readonly label: string
  readonly unit: Unit
  /** What it is wanted to stay below; a rate, above. */
  readonly aim: number | undefined
  readonly samples: Array<number>
}

export interface Summary {
  readonly median: number
  readonly min: number
  readonly max: number
}

export const summarize = (samples: ReadonlyArray<number>): Summary => {
  const sorted = samples.toSorted((a, b) => a - b)
  const half = sorted.length >> 1
  const upper = sorted[half] ?? Number.NaN
  const lower = sorted[(sorted.length - 1) >> 1] ?? Number.NaN
  return { median: (lower + upper) / 2, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN }
}

const digits = (unit: Unit, value: number): string =>
  unit === "bytes" || unit === "1/s" || unit === ""
    ? String(Math.round(value))
    : value.toFixed(unit === "ratio" ? 2 : 1)

const cells = ({ aim, label, samples, unit }: Figure): ReadonlyArray<string> => {
  const { max, median, min } = summarize(samples)
  return [
    label,
    digits(unit, median),
    min === max ? "" : `(${digits(unit, min)}–${digits(unit, max)})`,
    unit === "ratio" ? "" : unit,
    aim === undefined ? "" : `aim ${unit === "1/s" ? ">" : "<"} ${aim}`
  ]
}

/** Figures under headings, in the order in which they were first met. */
export class Figures {
  private readonly groups = new Map<string, Map<string, Figure>>()

  add(group: string, label: string, unit: Unit, value: number, aim?: number): void {
    const figures = this.groups.get(group) ?? new Map<string, Figure>()
    this.groups.set(group, figures)
    const figure = figures.get(label) ?? { label, unit, aim, samples: [] }
    figures.set(label, figure)
    figure.samples.push(value)
  }

  text(): string {
    const rows = [...this.groups].flatMap(([group, figures]) => [[group], ...[...figures.values()].map(cells)])
    const width = (column: number): number =>
      Math.max(...rows.map((row) => (row.length > 1 ? (row[column] ?? "") : "").length))
    const widths = [0, 1, 2, 3].map(width)
    return rows
      .map((row) => {
        if (row.length === 1) return `\n${row[0]}`
        const [label = "", median = "", range = "", unit = "", aim = ""] = row
        return `  ${label.padEnd(widths[0] ?? 0)}  ${median.padStart(widths[1] ?? 0)} ${unit.padEnd(widths[3] ?? 0)} ${range.padEnd(widths[2] ?? 0)} ${aim}`.trimEnd()
      })
      .join("\n")
  }

  json() {
    return [...this.groups].flatMap(([group, figures]) =>
      [...figures.values()].map(({ aim, label, samples, unit }) => ({
        group,
        label,
        unit,
        ...(aim === undefined ? {} : { aim }),
        ...summarize(samples),
        samples
      }))
    )
  }
}
