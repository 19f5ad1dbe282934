/**
 * Named places where a test can make the program fail, wait or exit, and the words that say what happens there.
 *
 * The words are those of the Rust crate `fail` with `exit` added: `[<percent>%][<count>*]<task>[(argument)]`, joined by
 * `->`; the first of them whose count is not used up and whose chance comes up is done. `delay` sleeps like `sleep`.
 * Source: reference/http-api §8.5.
 */
import * as Data from "effect/Data"
import * as Result from "effect/Result"

/** Every place, with what comes next there. The stages of a start are places under their own names. */
export const points = {
  start_compute: "the start",
  prepare_pgdata: "PGDATA is made",
  create_pgdata: "PGDATA is emptied",
  check_safekeepers_synced: "safekeepers are asked for their positions",
  sync_safekeepers: "`postgres --sync-safekeepers` at a start",
  get_basebackup: "the first attempt at the base backup",
  start_postgres: "Postgres is started",
  configure_as_primary: "roles and databases are applied at a start",
  "compute-migration": "a migration is marked as done; `return(N)` fails number N",
  "compute-configuration-before-apply": "a running Postgres gets another spec",
  "refresh-after-fetch": "a configuration that was pulled is looked at",
  "terminate-before-sync": "the last sync of the safekeepers; Postgres is gone"
} as const
export type Point = keyof typeof points

export const isPoint = (name: string): name is Point => Object.hasOwn(points, name)

export type Task =
  | { readonly _tag: "Off" | "Pause" | "Yield" | "Exit" }
  | { readonly _tag: "Return" | "Panic" | "Print"; readonly text: string }
  | { readonly _tag: "Sleep"; readonly millis: number }

export interface Action {
  /** Chance in percent. */
  readonly percent: number
  /** How often; undefined: always. */
  readonly count: number | undefined
  readonly task: Task
}

export interface Failpoint {
  readonly name: string
  /** As they were written. */
  readonly actions: string
}

export class InvalidFailpoint extends Data.TaggedError("InvalidFailpoint")<{ readonly message: string }> {}

type Parsed<A> = Result.Result<A, InvalidFailpoint>

const invalid = (message: string): Result.Result<never, InvalidFailpoint> =>
  Result.fail(new InvalidFailpoint({ message }))

const pattern = /^(?:(?<percent>\d+(?:\.\d+)?)%)?(?:(?<count>\d+)\*)?(?<word>[a-z]+)(?:\((?<argument>.*)\))?$/su

const task = (word: string, argument: string | undefined): Parsed<Task> => {
  switch (word) {
    case "off":
      return Result.succeed({ _tag: "Off" })
    case "pause":
      return Result.succeed({ _tag: "Pause" })
    case "yield":
      return Result.succeed({ _tag: "Yield" })
    case "exit":
      return Result.succeed({ _tag: "Exit" })
    case "return":
      return Result.succeed({ _tag: "Return", text: argument ?? "" })
    case "panic":
      return Result.succeed({ _tag: "Panic", text: argument ?? "" })
    case "print":
      return Result.succeed({ _tag: "Print", text: argument ?? "" })
    case "sleep":
    case "delay":
      return argument !== undefined && /^\d{1,9}$/u.test(argument)
        ? Result.succeed({ _tag: "Sleep", millis: Number(argument) })
        : invalid(`${word} wants milliseconds, as ${word}(100)`)
    default:
      return invalid(`unrecognized command ${JSON.stringify(word)}`)
  }
}

const action = (text: string): Parsed<Action> => {
  const { argument, count, percent, word = "" } = pattern.exec(text.trim())?.groups ?? {}
  if (word === "") return invalid(`failed to parse ${JSON.stringify(text)}`)
  return Result.map(task(word, argument), (made) => ({
    percent: percent === undefined ? 100 : Number(percent),
    count: count === undefined ? undefined : Number(count),
    task: made
  }))
}

/** What happens at a place: `2*sleep(10)->return(x)`. */
export const parseActions = (text: string): Parsed<ReadonlyArray<Action>> => Result.all(text.split("->").map(action))

/** The variable `FAILPOINTS`: `name=actions;name=actions`. */
export const parseVariable = (text: string): Parsed<ReadonlyArray<Failpoint>> =>
  Result.all(
    text
      .split(";")
      .map((entry) => entry.trim())
      .filter((entry) => entry !== "")
      .map((entry): Parsed<Failpoint> => {
        const at = entry.indexOf("=")
        if (at < 1) return invalid(`expected name=actions in ${JSON.stringify(entry)}`)
        const point = { name: entry.slice(0, at).trim(), actions: entry.slice(at + 1).trim() }
        return Result.map(parseActions(point.actions), () => point)
      })
  )
