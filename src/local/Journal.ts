/** What an emulated server has seen, oldest first, for tests and for people who watch. Bounded: the oldest is forgotten. */
import * as Effect from "effect/Effect"

const keptEntries = 10_000

export interface Journal<A> {
  /** The last 10 000; entries go on changing while their conversation lasts. */
  readonly all: () => ReadonlyArray<A>
  /** The first entry, old or new, that fits. Waits for it without limit: give the call a deadline. */
  readonly until: (fits: (entry: A) => boolean) => Effect.Effect<A>
  readonly clear: () => void
}

/** The side that writes. */
export interface Recorder<A> extends Journal<A> {
  readonly add: (entry: A) => void
  /** Says that an entry was changed in place. */
  readonly touch: () => void
}

export const makeRecorder = <A>(): Recorder<A> => {
  let entries: Array<A> = []
  const watchers = new Set<() => void>()
  const touch = (): void => {
    for (const watcher of watchers) watcher()
  }
  return {
    all: () => entries.slice(),
    clear: () => {
      entries = []
    },
    touch,
    add: (entry) => {
      entries.push(entry)
      if (entries.length > keptEntries) entries.shift()
      touch()
    },
    until: (fits) =>
      Effect.callback<A>((resume) => {
        const look = (): void => {
          const found = entries.find(fits)
          if (found === undefined) return
          watchers.delete(look)
          resume(Effect.succeed(found))
        }
        watchers.add(look)
        look()
        return Effect.sync(() => watchers.delete(look))
      })
  }
}
