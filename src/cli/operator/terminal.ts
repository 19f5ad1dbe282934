/** How texts look on a terminal: colours, columns, durations, times. Pure. */
import { lines, oneLine } from "../printable.ts"

const codes = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 } as const
type Style = keyof typeof codes

export interface Screen {
  readonly columns: number
  /** The text in that style; as it is where there are no colours. */
  readonly paint: (style: Style, text: string) => string
}

export const screen = (options: { readonly colours: boolean; readonly columns: number }): Screen => ({
  columns: options.columns,
  paint: (style, text) => (options.colours ? `\u001b[${codes[style]}m${text}\u001b[0m` : text)
})

const units = [
  ["d", 86_400],
  ["h", 3600],
  ["min", 60],
  ["s", 1]
] as const

/** `12 ms`, `3.4 s`, `3 min 4 s`, `2 d 5 h`: two units at most. */
export const duration = (millis: number): string => {
  if (millis < 1000) return `${Math.max(0, Math.round(millis))} ms`
  if (millis < 60_000) return `${(Math.floor(millis / 100) / 10).toFixed(1)} s`
  const seconds = Math.floor(millis / 1000)
  const at = units.findIndex(([, size]) => seconds >= size)
  const [[big, size] = ["s", 1], [small, part] = ["s", 1]] = units.slice(at, at + 2)
  const rest = Math.floor((seconds % size) / part)
  return `${Math.floor(seconds / size)} ${big}${rest === 0 ? "" : ` ${rest} ${small}`}`
}

/** `2026-11-21 12:22:23 UTC` of an RFC 3339 text; another text as it is. */
export const time = (rfc3339: string): string => {
  const millis = Date.parse(rfc3339)
  return Number.isNaN(millis)
    ? oneLine(rfc3339)
    : `${new Date(millis).toISOString().slice(0, 19).replace("T", " ")} UTC`
}

/** Labels and values in two columns; a value of several lines goes on under itself. */
export const fields = (
  { paint }: Screen,
  rows: ReadonlyArray<readonly [label: string, value: string]>
): ReadonlyArray<string> => {
  const width = Math.max(...rows.map(([label]) => label.length)) + 2
  return rows.flatMap(([label, value]) =>
    lines(value).map((line, index) => `  ${paint("dim", (index === 0 ? label : "").padEnd(width))}${line}`.trimEnd())
  )
}

/** Cells in columns as wide as their longest; the numbers of columns in `right` end at the same place. */
export const columns = (
  rows: ReadonlyArray<ReadonlyArray<string>>,
  right: ReadonlyArray<number> = []
): ReadonlyArray<string> => {
  const widths: Array<number> = []
  for (const row of rows) for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length)
  return rows.map((row) =>
    row
      .map((cell, at) => (right.includes(at) ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0)))
      .join("  ")
      .trimEnd()
  )
}
