import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import * as Failpoint from "../../src/domain/Failpoint.ts"
import * as Failpoints from "../../src/layers/Failpoints.ts"

const point = "start_compute"

/** Runs with failpoints that work, the point doing this. */
const withPoint = <A, E>(actions: string, self: Effect.Effect<A, E>, exit: Effect.Effect<void> = Effect.void) =>
  Effect.provide(self, Failpoints.layer([{ name: point, actions }], exit))

const hits = (count: number) => Effect.all(Array.from({ length: count }, () => Failpoints.hit(point)))

describe("failpoints", () => {
  it.effect("are off unless somebody turns them on", () =>
    Effect.gen(function* () {
      const registry = yield* Failpoints.Failpoints
      yield* registry.configure({ name: point, actions: "return(x)" })
      expect(yield* Failpoints.hit(point)).toBeUndefined()
      yield* Failpoints.pass(point)
    })
  )

  it.effect("return once, then twice something else, then nothing", () =>
    withPoint(
      "1*return(a)->2*return->off",
      Effect.gen(function* () {
        expect(yield* hits(5)).toEqual(["a", "", "", undefined, undefined])
      })
    )
  )

  it.effect("fail what comes next, with their own words", () =>
    withPoint(
      "1*return(no disk)->1*return",
      Effect.gen(function* () {
        const first = yield* Effect.flip(Failpoints.pass(point))
        expect([first._tag, first.message]).toEqual(["FailpointHit", "failpoint start_compute: no disk"])
        expect((yield* Effect.flip(Failpoints.pass(point))).message).toBe("failpoint start_compute")
        yield* Failpoints.pass(point)
      })
    )
  )

  it.effect("0% never happens, and leaves its place to what follows", () =>
    withPoint(
      "0%return(a)->return(b)",
      Effect.gen(function* () {
        expect(yield* hits(3)).toEqual(["b", "b", "b"])
      })
    )
  )

  it.effect("sleep", () =>
    withPoint(
      "sleep(1000)",
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Failpoints.hit(point))
        yield* TestClock.adjust("999 millis")
        expect(fiber.pollUnsafe()).toBeUndefined()
        yield* TestClock.adjust("1 millis")
        expect(yield* Fiber.join(fiber)).toBeUndefined()
      })
    )
  )

  it.effect("pause until they are configured anew", () =>
    withPoint(
      "pause",
      Effect.gen(function* () {
        const registry = yield* Failpoints.Failpoints
        const passed = yield* Deferred.make<void>()
        yield* Effect.forkChild(Effect.andThen(Failpoints.hit(point), Deferred.succeed(passed, undefined)))
        yield* Effect.yieldNow
        yield* registry.configure({ name: "get_basebackup", actions: "off" })
        expect(yield* Deferred.isDone(passed)).toBe(false)
        yield* registry.configure({ name: point, actions: "off" })
        yield* Deferred.await(passed)
      })
    )
  )

  it.effect("panic is a defect, exit ends the process", () =>
    Effect.gen(function* () {
      let ended = 0
      const exit = yield* Effect.exit(
        withPoint(
          "1*exit->panic(boom)",
          hits(2),
          Effect.sync(() => void ended++)
        )
      )
      expect(ended).toBe(1)
      expect(Exit.isFailure(exit) ? String(exit.cause) : "").toContain("boom")
    })
  )
})

describe("the words", () => {
  const failure = (text: string) => Result.getOrThrow(Result.flip(Failpoint.parseVariable(text))).message

  it("of the variable are pairs", () => {
    expect(Result.getOrThrow(Failpoint.parseVariable("a=off; b = 2*sleep(1)->return(x=y) ;"))).toEqual([
      { name: "a", actions: "off" },
      { name: "b", actions: "2*sleep(1)->return(x=y)" }
    ])
    expect(Result.getOrThrow(Failpoint.parseVariable(""))).toEqual([])
    expect(failure("a")).toBe('expected name=actions in "a"')
    expect(failure("=off")).toBe('expected name=actions in "=off"')
  })

  it.each([
    ["a=", 'failed to parse ""'],
    ["a=explode", 'unrecognized command "explode"'],
    ["a=off->", 'failed to parse ""'],
    ["a=sleep", "sleep wants milliseconds, as sleep(100)"],
    ["a=delay(-1)", "delay wants milliseconds, as delay(100)"],
    ["a=x%off", 'failed to parse "x%off"']
  ])("%s is refused", (text, message) => {
    expect(failure(text)).toBe(message)
  })

  it("know the chance and the count of an action", () => {
    expect(Result.getOrThrow(Failpoint.parseActions("12.5%3*print(a)->yield"))).toEqual([
      { percent: 12.5, count: 3, task: { _tag: "Print", text: "a" } },
      { percent: 100, count: undefined, task: { _tag: "Yield" } }
    ])
  })
})
