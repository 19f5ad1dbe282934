/** What can happen to a node, in any order. */
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

/** How a node is found before the first step. */
const beginnings = ["running", "running", "running", "starting", "empty", "failed"] as const
export type Beginning = (typeof beginnings)[number]

/** What the node survives; the harmless ones first: that is where shrinking leads. What stands twice comes twice as often. */
const survived = [
  "settle",
  "settle",
  "refresh",
  "refresh",
  "configure setting",
  "configure role",
  "configure bad role",
  "configure other timeline",
  "configure nonsense",
  "publish setting",
  "publish role",
  "publish bad role",
  "publish other timeline",
  "publish 503",
  "publish 404",
  "publish garbage",
  "answer slowly",
  "break off",
  "certificate"
] as const
/** What ends it, sooner or later. */
const deadly = [
  "publish detached",
  "terminate fast",
  "terminate immediate",
  "kill SIGINT",
  "kill SIGQUIT",
  "kill SIGKILL"
] as const
type Deadly = (typeof deadly)[number]
export type Word = (typeof survived)[number] | Deadly

const pauses = [0, 0, 1, 5, 20, 60, 200] as const

/** What is done, and how many milliseconds pass before the next. Nobody waits for an answer. */
export type Step = readonly [word: Word, pause: number]

const oneOf = <A>(all: ReadonlyArray<A>, fallback: A): Arbitrary.Arbitrary<A> =>
  Arbitrary.map(
    Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: all.length - 1 }))),
    (index) => all[index] ?? fallback
  )

export const AnyBeginning = oneOf<Beginning>(beginnings, "running")

const AnyPause = oneOf<number>(pauses, 0)

/** Half of the nodes are not ended; the others once or twice, at any place. */
const AnyEnd = Arbitrary.array(
  Arbitrary.all([
    oneOf<Deadly | undefined>([...deadly.map(() => undefined), ...deadly], undefined),
    AnyPause,
    Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 14 })))
  ]),
  { minLength: 1, maxLength: 2 }
)

export const AnySteps: Arbitrary.Arbitrary<ReadonlyArray<Step>> = Arbitrary.map(
  Arbitrary.all([
    Arbitrary.array(Arbitrary.all([oneOf<Word>(survived, "settle"), AnyPause]), { maxLength: 14 }),
    AnyEnd
  ]),
  ([steps, ends]) => {
    const all: Array<Step> = [...steps]
    for (const [word, pause, place] of ends) if (word !== undefined) all.splice(place, 0, [word, pause])
    return all
  }
)

const whole = (text: string | undefined, otherwise: number): number => {
  const value = Number(text ?? otherwise)
  return Number.isInteger(value) && value > 0 ? value : otherwise
}

/** `MODEL_RUNS` makes more of them, `MODEL_SEED` repeats those of a failure. */
export const checkOptions = (runs: number) => {
  const { MODEL_RUNS, MODEL_SEED } = process.env
  return {
    runs: whole(MODEL_RUNS, runs),
    maxShrinks: 40,
    size: 100,
    ...(MODEL_SEED === undefined ? {} : { seed: Number(MODEL_SEED) })
  }
}
