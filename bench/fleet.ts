/**
 * How a fleet heals that has lost its pageserver at once, and what that costs the control plane: with the schedule of this
 * program, with others, and with the flat pause of the original. Virtual time; the same figures every time.
 *
 *     npm run bench:fleet            prints table and chart
 *     npm run bench:fleet -- FILE    writes them into that document
 *
 * The model: `support/fleet.ts`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Generated from "../build/generated.ts"
import * as schedules from "../src/layers/schedules.ts"
import { type Outcome, type RetrySchedule, simulate } from "./support/fleet.ts"

interface Candidate {
  readonly name: string
  readonly schedule: RetrySchedule
}

export const ours: Candidate = { name: "**ours: 1 s doubling, at most 30 s, ±50 %**", schedule: schedules.refresh }
const flat: Candidate = { name: "flat 5 s, as the original", schedule: Schedule.spaced("5 seconds") }
const others: ReadonlyArray<Candidate> = [
  { name: "flat 5 s, ±20 %", schedule: Schedule.jittered(Schedule.spaced("5 seconds")) },
  ...(["10 seconds", "20 seconds", "60 seconds"] as const).map((longest) => ({
    name: `1 s doubling, at most ${longest.replace("seconds", "s")}, ±50 %`,
    schedule: schedules.refreshWith({ first: "1 second", longest })
  })),
  {
    name: "0.5 s doubling, at most 30 s, ±50 %",
    schedule: schedules.refreshWith({ first: "0.5 seconds", longest: "30 seconds" })
  },
  {
    name: "1 s doubling, at most 30 s, ±20 %",
    schedule: Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("30 seconds")]).pipe(Schedule.jittered)
  }
]

/** Seconds of the second question: a control plane that is away. */
const outage = 180

const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((all, one) => all + one, 0)
const thousands = (value: number): string => Math.round(value).toLocaleString("en-US")
const seconds = (value: number | undefined): string => (value === undefined ? "never" : `${Math.round(value)} s`)

/** A row of the table, and the fleet that has just lost its pageserver. */
export const row = ({ name, schedule }: Candidate) =>
  Effect.gen(function* () {
    const loss = yield* simulate(schedule)
    const away = yield* simulate(schedule, outage)
    const standing = sum(away.requests.slice(outage - 60, outage)) / 60
    const healed = away.healed(0.99)
    return {
      loss,
      cells: [
        name,
        seconds(loss.healed(0.5)),
        seconds(loss.healed(0.99)),
        thousands(sum(loss.requests)),
        thousands(Math.max(...loss.requests.slice(10, 60))),
        thousands(standing),
        seconds(healed === undefined ? undefined : healed - outage)
      ]
    }
  })

const bucket = 10
const rows = 26
const column = 30
/** Requests a second that fill a column. */
const fullBar = 4000

const bar = (perSecond: number): string => {
  const length = Math.min(column, Math.ceil((perSecond / fullBar) * column))
  return `${thousands(perSecond).padStart(6)} ${"█".repeat(length).padEnd(column)}`
}

/** Requests a second, each row the mean of ten seconds. */
const chart = (left: Outcome, right: Outcome): string => {
  const mean = ({ requests }: Outcome, from: number): number => sum(requests.slice(from, from + bucket)) / bucket
  const lines = Array.from({ length: rows }, (_, index) => {
    const from = index * bucket
    return `${String(from).padStart(4)} s ${bar(mean(left, from))} ${bar(mean(right, from))}`.trimEnd()
  })
  return ["```text", `       ${"ours".padEnd(column + 7)} flat 5 s`, ...lines, "```"].join("\n")
}

export const part = "fleet"

export const figures = Effect.gen(function* () {
  const first = yield* row(ours)
  const second = yield* row(flat)
  const rest = yield* Effect.forEach(others, row)
  const head = [
    "Pauses",
    "Half healed",
    "99 % healed",
    "Requests",
    "Most in a second, from 10 s on",
    "A second, in an outage",
    "99 % healed after it"
  ]
  return [
    Generated.table(
      head,
      [first, second, ...rest].map(({ cells }) => cells)
    ),
    "Requests a second that the control plane gets, as means of ten seconds:",
    chart(first.loss, second.loss)
  ].join("\n\n")
})

if (import.meta.main) {
  NodeRuntime.runMain(Effect.map(figures, (text) => Generated.main(process.argv.slice(2), part, text)))
}
