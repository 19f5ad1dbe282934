/** `GET /timeline` for people: stages under those that hold them, with bars to scale. */
import type { StartupTimeline } from "../../http/client/documents.ts"
import { oneLine } from "../printable.ts"
import { columns, duration, type Screen, time } from "./terminal.ts"

type Stage = StartupTimeline["stages"][number]

interface Row extends Stage {
  readonly begin: number
  readonly end: number
  readonly depth: number
}

/** Stages that are made of others. The rest hold nothing, whatever else happens while they run. */
const holders: ReadonlyArray<string> = ["start_compute", "prepare_pgdata"]

/** A start that was tried again is drawn on its own: with the pause between on one scale nothing could be seen. */
const attempts = (stages: ReadonlyArray<Stage>, now: number): ReadonlyArray<ReadonlyArray<Row>> => {
  const found: Array<Array<Row>> = []
  let open: Array<Row> = []
  for (const stage of stages) {
    const begin = Date.parse(stage.started_at)
    const end = stage.duration_ms === null ? Math.max(begin, now) : begin + stage.duration_ms
    open = open.filter((holder) => begin <= holder.end && (end <= holder.end || holder.duration_ms === null))
    const row = { ...stage, begin, end, depth: open.length }
    if (open.length === 0 && holders.includes(stage.stage)) found.push([])
    const attempt = found.at(-1)
    if (attempt === undefined) found.push([row])
    else attempt.push(row)
    if (holders.includes(stage.stage)) open.push(row)
  }
  return found
}

const least = 10

const draw = (screen: Screen, rows: ReadonlyArray<Row>): ReadonlyArray<string> => {
  const begin = Math.min(...rows.map((row) => row.begin))
  const span = Math.max(1, ...rows.map((row) => row.end - begin))
  const cells = columns(
    [
      ["STAGE", "BEGINS AT", "TAKES", ""],
      ...rows.map((row) => [
        `${"  ".repeat(row.depth)}${oneLine(row.stage)}`,
        duration(row.begin - begin),
        duration(row.end - row.begin),
        row.error !== null ? "failed" : row.duration_ms === null ? "running" : ""
      ])
    ],
    [1, 2]
  )
  const width = Math.max(...cells.map((cell) => cell.length)) + 2
  const room = Math.max(least, Math.min(60, screen.columns - width - 1))
  const bar = ({ begin: from, duration_ms, end, error }: Row): string => {
    const offset = Math.min(room - 1, Math.floor(((from - begin) / span) * room))
    const length = Math.max(1, Math.min(room - offset, Math.round(((end - from) / span) * room)))
    const [sign, style] =
      error !== null
        ? (["█", "red"] as const)
        : duration_ms === null
          ? (["▒", "yellow"] as const)
          : (["█", "green"] as const)
    return `${" ".repeat(offset)}${screen.paint(style, sign.repeat(length))}`
  }
  const [head = "", ...body] = cells
  return [
    screen.paint("dim", head),
    ...rows.flatMap((row, index) => [
      `${(body[index] ?? "").padEnd(width)}${bar(row)}`,
      ...(row.error === null ? [] : [`${"  ".repeat(row.depth + 1)}${screen.paint("red", oneLine(row.error))}`])
    ])
  ]
}

/** @param now milliseconds since the epoch: how long a stage runs by now */
export const showTimeline = (screen: Screen, { stages }: StartupTimeline, now: number): ReadonlyArray<string> => {
  if (stages.length === 0) return ["no stage has begun"]
  return attempts(stages, now).flatMap((rows, index) => [
    ...(index === 0 ? [] : [""]),
    `start at ${time(rows[0]?.started_at ?? "")}`,
    ...draw(screen, rows)
  ])
}
