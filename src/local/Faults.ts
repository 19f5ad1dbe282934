/**
 * Planned misbehaviour of the emulated servers.
 *
 * A plan says at which moment of a conversation something goes wrong, and what. Plans are tried in the order in which
 * they were added; the first that ends the conversation is the last that is applied.
 */
import * as Deferred from "effect/Deferred"
import * as Exit from "effect/Exit"

/** When a plan applies, and how often. */
export interface Occasion<Moment extends string> {
  readonly at: Moment
  /** Conversations it is applied to; 1 when left out. */
  readonly times?: number | "forever"
  /** Conversations that go well before the first one it is applied to. */
  readonly skip?: number
  /** Applied only to commands (HTTP: `METHOD /path`) that contain this text or match this pattern. */
  readonly match?: string | RegExp
}

/** Waits, then everything goes on. */
interface Delay {
  readonly do: "delay"
  readonly millis: number
}

/**
 * Ends a conversation: by closing the connection, by a TCP reset, by noise and then closing, or by saying nothing more
 * until the plan is released, the client leaves, or the server stops.
 */
interface Break {
  readonly do: "close" | "reset" | "garbage" | "hang"
}

/**
 * Moments of a conversation on the Postgres protocol:
 * `accept` (nothing was read yet), `startup` (the start-up packet was read), `command` (a command was read, nothing was
 * answered: for `basebackup` before CopyOutResponse), `end` (the whole payload was sent, in place of CopyDone) and `tail`
 * (in place of CommandComplete).
 */
type PgMoment = "accept" | "startup" | "command" | "end" | "tail"

/** Answers ErrorResponse; the code is XX000 when left out. */
interface PgFailure {
  readonly do: "error"
  readonly message: string
  readonly sqlstate?: string
}

/**
 * Inside the payload, after that many bytes of it (0 when left out). `garbage` puts noise in the place of the rest and
 * `truncate` leaves the rest out; both then end the protocol as if all were well.
 */
type InsidePayload = { readonly at: "payload"; readonly afterBytes?: number } & (
  | PgFailure
  | Break
  | Delay
  | { readonly do: "truncate" }
)

/** The whole payload in small pieces. */
interface Drip {
  readonly at: "payload"
  readonly do: "drip"
  readonly bytes: number
  readonly millis: number
}

export type PgFault = Omit<Occasion<string>, "at"> &
  (({ readonly at: PgMoment } & (PgFailure | Break | Delay)) | InsidePayload | Drip)

/** HTTP: `request` is the moment when a request was read and nothing was answered. */
export type HttpFault = Occasion<"request"> &
  (
    | Delay
    | Break
    | {
        readonly do: "answer"
        readonly status: number
        readonly body?: string
        readonly headers?: Record<string, string>
      }
  )

/** The stub in place of `postgres`: `sync` is one run with `--sync-safekeepers`, `start` a start of the server. */
export type StubFault = Occasion<"sync" | "start"> &
  (
    | Delay
    | { readonly do: "hang" }
    | { readonly do: "fail"; readonly message: string; readonly code?: number }
    /** Prints this instead of the position. */
    | { readonly do: "print"; readonly text: string }
    /** Adds lines on stderr; the rest goes well. */
    | { readonly do: "complain"; readonly text: string }
  )

/** A plan and what became of it. */
export interface Planned<F> {
  readonly plan: F
  /** How often it was applied. */
  readonly used: () => number
  /** Ends it: it is applied no more, and conversations that hang because of it go on to their end. */
  readonly release: () => void
  /** Ends with `release`. */
  readonly released: Deferred.Deferred<void>
}

export interface FaultBook<F> {
  readonly add: (plan: F) => Planned<F>
  /** Releases all plans. */
  readonly clear: () => void
  /** Plans to apply now, in order; each counts as used. */
  readonly take: (moment: string, text?: string) => ReadonlyArray<Planned<F>>
}

interface Entry<F> extends Planned<F> {
  left: number
  skip: number
  count: number
}

const passing = new Set(["delay", "drip", "complain"])

const fits = (match: string | RegExp | undefined, text: string): boolean =>
  match === undefined || (typeof match === "string" ? text.includes(match) : match.test(text))

/** An empty book of plans for one server. */
export const makeFaultBook = <F extends Occasion<string> & { readonly do: string }>(): FaultBook<F> => {
  let entries: ReadonlyArray<Entry<F>> = []

  const use = (entry: Entry<F>, moment: string, text: string): boolean => {
    if (entry.plan.at !== moment || entry.left === 0 || !fits(entry.plan.match, text)) return false
    if (entry.skip > 0) {
      entry.skip--
      return false
    }
    entry.left--
    entry.count++
    return true
  }

  return {
    add: (plan) => {
      const released = Deferred.makeUnsafe<void>()
      const entry: Entry<F> = {
        plan,
        left: plan.times === "forever" ? Number.POSITIVE_INFINITY : (plan.times ?? 1),
        skip: plan.skip ?? 0,
        count: 0,
        used: () => entry.count,
        release: () => {
          entry.left = 0
          Deferred.doneUnsafe(released, Exit.void)
        },
        released
      }
      entries = [...entries, entry]
      return entry
    },
    clear: () => {
      const dropped = entries
      entries = []
      for (const entry of dropped) entry.release()
    },
    take: (moment, text = "") => {
      const taken: Array<Planned<F>> = []
      for (const entry of entries) {
        if (!use(entry, moment, text)) continue
        taken.push(entry)
        if (!passing.has(entry.plan.do)) break
      }
      return taken
    }
  }
}

/** Reproducible bytes that are no valid message. */
export const noise = (bytes: number, seed = 1): Buffer => {
  const out = Buffer.allocUnsafe(bytes)
  let state = seed >>> 0 || 1
  for (let index = 0; index < bytes; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    out[index] = index === 0 ? 0xff : state >>> 24
  }
  return out
}
