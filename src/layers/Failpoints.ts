/**
 * The failpoints of this process: off, unless it was started with `--enable-failpoints`.
 *
 * A reference: who is given none has none, and passing a point costs a look at a constant. What a point does is changed
 * while the program runs; a pause ends with the next change of its point.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Failpoint from "../domain/Failpoint.ts"

/** A point was told to fail what comes next. */
export class FailpointHit extends Data.TaggedError("FailpointHit")<{
  readonly point: string
  readonly message: string
}> {}

interface Registry {
  /** Replaces what a point does. Any name is accepted: other versions have other points. */
  readonly configure: (point: Failpoint.Failpoint) => Effect.Effect<void, Failpoint.InvalidFailpoint>
  /** Does what the point was told; the argument of `return`, undefined where it was not told to return. */
  readonly hit: (name: Failpoint.Point) => Effect.Effect<string | undefined>
}

const off: Registry = { configure: () => Effect.void, hit: () => Effect.succeed(undefined) }

/** A failpoint as it is configured. */
interface Armed {
  readonly actions: ReadonlyArray<{ readonly action: Failpoint.Action; left: number }>
  /** Completed when the point is configured anew. */
  readonly changed: Deferred.Deferred<void>
}

/** Chooses the action that is due, and uses it up. */
const due = ({ actions }: Armed): Effect.Effect<Failpoint.Task | undefined> =>
  Effect.gen(function* () {
    for (const entry of actions) {
      if (entry.left <= 0 || (yield* Random.nextBetween(0, 100)) >= entry.action.percent) continue
      entry.left--
      return entry.action.task
    }
    return undefined
  })

const make = (exit: Effect.Effect<void>): Registry => {
  const armed = new Map<string, Armed>()

  const perform = (name: string, { changed }: Armed, task: Failpoint.Task): Effect.Effect<string | undefined> => {
    switch (task._tag) {
      case "Off":
        return Effect.succeed(undefined)
      case "Return":
        return Effect.succeed(task.text)
      case "Sleep":
        return Effect.as(Effect.sleep(task.millis), undefined)
      case "Pause":
        return Effect.as(Deferred.await(changed), undefined)
      case "Yield":
        return Effect.as(Effect.yieldNow, undefined)
      case "Print":
        return Effect.as(Effect.logInfo(task.text === "" ? `failpoint ${name} executed.` : task.text), undefined)
      case "Panic":
        return Effect.die(new Error(task.text === "" ? `failpoint ${name} panic` : task.text))
      case "Exit":
        return Effect.andThen(Effect.logInfo(`failpoint ${name} triggered, exiting`), Effect.as(exit, undefined))
    }
  }

  return {
    configure: Effect.fnUntraced(function* ({ actions, name }) {
      const parsed = yield* Effect.fromResult(Failpoint.parseActions(actions))
      yield* Effect.logInfo(`cfg failpoint: ${name} ${actions}`)
      if (!Failpoint.isPoint(name)) {
        const known = Object.keys(Failpoint.points).join(", ")
        yield* Effect.logWarning(`nothing passes a failpoint of this name; there are ${known}`)
      }
      const before = armed.get(name)
      armed.set(name, {
        actions: parsed.map((action) => ({ action, left: action.count ?? Number.POSITIVE_INFINITY })),
        changed: Deferred.makeUnsafe()
      })
      if (before !== undefined) yield* Deferred.succeed(before.changed, undefined)
    }),
    hit: (name) =>
      Effect.suspend(() => {
        const point = armed.get(name)
        if (point === undefined) return Effect.succeed(undefined)
        return Effect.flatMap(due(point), (task) =>
          task === undefined ? Effect.succeed(undefined) : perform(name, point, task)
        )
      })
  }
}

export const Failpoints = Context.Reference<Registry>("compute/layers/Failpoints", { defaultValue: () => off })

/** Failpoints that work. `exit` ends the process at once, without any cleaning up: that is what it is for. */
export const layer = (
  initial: ReadonlyArray<Failpoint.Failpoint>,
  exit: Effect.Effect<void>
): Layer.Layer<never, Failpoint.InvalidFailpoint> =>
  Layer.effect(
    Failpoints,
    Effect.gen(function* () {
      const registry = make(exit)
      for (const point of initial) yield* registry.configure(point)
      return registry
    })
  )

/** Passes a point; the argument of `return`, undefined where it was not told to return. */
export const hit = (name: Failpoint.Point): Effect.Effect<string | undefined> =>
  Effect.flatMap(Failpoints, (registry) => registry.hit(name))

/** Passes a point that fails what comes next where it was told to return. */
export const pass = (name: Failpoint.Point): Effect.Effect<void, FailpointHit> =>
  Effect.flatMap(hit(name), (text) =>
    text === undefined
      ? Effect.void
      : Effect.fail(new FailpointHit({ point: name, message: `failpoint ${name}${text === "" ? "" : `: ${text}`}` }))
  )
