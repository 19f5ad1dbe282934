/** The state machine, edge by edge, as it can be seen from outside; what cannot be caught from there, in this process. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ComputeEvent, type ComputeStatus, display, edges, next } from "../../src/domain/ComputeStatus.ts"
import { startInProcess } from "../model/inProcess.ts"
import { type Bed, makeBed, type StartOptions } from "../support/bed.ts"
import { type Compute, eventually } from "../support/compute.ts"
import { catalog, configure, refresh } from "../support/reconfigure.ts"
import { failBasebackup, printPosition, retries } from "../support/storage.ts"

const source = "controlPlane" as const
const seen = new Set<string>()

/** What these events make of a node, one after the other; they count as seen. */
const walk = (events: ReadonlyArray<ComputeEvent>): ReadonlyArray<string> => {
  let status: ComputeStatus = "empty"
  return events.flatMap((event) => {
    const to = next(status, event)
    if (to === undefined) throw new Error(`no edge from ${status} for ${event}`)
    seen.add(`${status} ${event}`)
    const move = status === to ? [] : [`${display(status)} → ${display(to)}`]
    status = to
    return move
  })
}

const logged = (log: string): ReadonlyArray<string> =>
  [...log.matchAll(/Changing compute status from (\S+) to (\S+)/gu)].map(([, from, to]) => `${from} → ${to}`)

const times = (node: Compute, move: string): number => logged(node.stderr()).filter((one) => one === move).length

const until = (node: Compute, move: string, count = 1) =>
  eventually(
    () => `${move}\n${node.stderr()}`,
    () => times(node, move) >= count
  )

/** Ends the node; one that has ended fast does not linger. */
const end = (node: Compute, mode: "fast" | "immediate") =>
  Effect.gen(function* () {
    const answer = yield* node.terminate(mode)
    expect(answer.status, answer.text).toBe(200)
    yield* node.signal("SIGTERM")
    yield* node.exit
  })

interface Life {
  readonly name: string
  readonly options: StartOptions
  readonly prepare?: (bed: Bed) => void
  readonly events: ReadonlyArray<ComputeEvent>
  readonly live: (node: Compute, bed: Bed) => Effect.Effect<void, never, Scope.Scope>
}

const started = ["startup_begins", "startup_succeeded"] as const
const nothing: StartOptions = { document: ({ spec: _, ...rest }) => rest }
const accepted = (call: Effect.Effect<{ readonly status: number }>) =>
  Effect.map(call, ({ status }) => expect(status).toBe(200))

/** A role that cannot be made while another session holds the lock, so that the apply takes as long as we want. */
const hold = (node: Compute, bed: Bed) =>
  Effect.gen(function* () {
    const session = yield* Effect.orDie(node.session)
    yield* Effect.orDie(session.query("BEGIN; LOCK TABLE pg_catalog.pg_authid IN SHARE MODE"))
    yield* Effect.forkScoped(configure(bed, node, { spec: yield* catalog(bed, node, { roles: [{ name: "slow" }] }) }))
    yield* node.waitFor("configuration")
  })

/** From a failed start the only way on is a refresh. */
const failing = (name: string, ending: "fast" | "immediate"): Life => ({
  name,
  options: { source, env: retries(0) },
  prepare: (bed) => void failBasebackup(bed),
  events: [
    "startup_begins",
    "startup_failed",
    "refresh_requested",
    "refresh_begins",
    "refresh_attempt_failed",
    "refresh_gave_up",
    ending === "fast" ? "terminate_fast" : "terminate_immediate",
    "stopped"
  ],
  live: (node, bed) =>
    Effect.gen(function* () {
      yield* node.waitFor("failed")
      bed.storage.controlPlane.answer(bed.computeId(), 503, "")
      yield* accepted(refresh(node))
      yield* until(node, "refresh-configuration-pending → failed")
      yield* end(node, ending)
    })
})

const lives: ReadonlyArray<Life> = [
  ...(["fast", "immediate"] as const).flatMap((mode): ReadonlyArray<Life> => {
    const terminate = mode === "fast" ? "terminate_fast" : "terminate_immediate"
    return [
      {
        name: `that is empty, then ${mode}`,
        options: nothing,
        events: [terminate, "stopped"],
        live: (node) => Effect.andThen(node.waitFor("empty"), end(node, mode))
      },
      {
        name: `that is starting, then ${mode}`,
        options: {},
        prepare: (bed) => void bed.storage.pageserver.faults.add({ at: "command", do: "hang" }),
        events: ["startup_begins", "refresh_requested", terminate, "stopped"],
        live: (node, bed) =>
          Effect.gen(function* () {
            yield* bed.storage.pageserver.commands.until(() => true)
            yield* accepted(refresh(node))
            expect((yield* node.status).status).toBe("init")
            yield* end(node, mode)
          })
      },
      {
        name: `that is configured while empty, then at work, then ${mode}`,
        options: nothing,
        events: ["spec_accepted", ...started, "spec_accepted", "configuration_begins", terminate, "stopped"],
        live: (node, bed) =>
          Effect.gen(function* () {
            yield* node.waitFor("empty")
            yield* accepted(configure(bed, node))
            yield* hold(node, bed)
            yield* end(node, mode)
          })
      },
      failing(`whose start and refresh fail, then ${mode}`, mode),
      {
        name: `that waits for the next attempt, then ${mode}`,
        options: { source },
        events: [
          ...started,
          "refresh_requested",
          "refresh_begins",
          "refresh_attempt_failed",
          "refresh_requested",
          terminate,
          "stopped"
        ],
        live: (node, bed) =>
          Effect.gen(function* () {
            yield* node.waitFor("running")
            bed.storage.controlPlane.answer(bed.computeId(), 503, "")
            yield* accepted(refresh(node))
            yield* until(node, "refresh-configuration → refresh-configuration-pending")
            yield* accepted(refresh(node))
            expect((yield* node.status).status).toBe("refresh_configuration_pending")
            yield* end(node, mode)
          })
      },
      {
        name: `that asks the control plane, then ${mode}`,
        options: { source },
        events: [...started, "refresh_requested", "refresh_begins", terminate, "stopped"],
        live: (node, bed) =>
          Effect.gen(function* () {
            yield* node.waitFor("running")
            bed.storage.controlPlane.faults.add({ at: "request", do: "hang" })
            yield* accepted(refresh(node))
            yield* node.waitFor("refresh_configuration")
            yield* end(node, mode)
          })
      }
    ]
  }),
  {
    name: "that is ended again and again",
    options: {},
    events: [
      ...started,
      "terminate_fast",
      "terminate_fast",
      "terminate_immediate",
      "terminate_fast",
      "terminate_immediate",
      "stopped"
    ],
    live: (node, bed) =>
      Effect.gen(function* () {
        yield* node.waitFor("running")
        const sync = bed.storage.stub.faults.add({ at: "sync", do: "hang" })
        for (const [mode, status] of [
          ["fast", "fast"],
          ["fast", "fast"],
          ["immediate", "immediate"],
          ["fast", "immediate"],
          ["immediate", "immediate"]
        ] as const) {
          const asked = yield* Effect.forkScoped(node.terminate(mode))
          yield* node.waitFor(`termination_pending_${status}`)
          expect(asked.pollUnsafe(), `${mode} is answered at the end`).toBeUndefined()
        }
        sync.release()
        yield* node.exit
      })
  },
  {
    name: "that is configured, well and badly, healed, and ended at once",
    options: { source },
    events: [
      ...started,
      "spec_accepted",
      "configuration_begins",
      "configuration_succeeded",
      "spec_accepted",
      "configuration_begins",
      "configuration_failed",
      "refresh_requested",
      "refresh_begins",
      "refresh_succeeded",
      "terminate_immediate",
      "stopped"
    ],
    live: (node, bed) =>
      Effect.gen(function* () {
        yield* node.waitFor("running")
        yield* accepted(configure(bed, node))
        const bad = { name: "bad", options: [{ name: "nonsense", value: null, vartype: "bool" }] }
        const answer = yield* configure(bed, node, { spec: yield* catalog(bed, node, { roles: [bad] }) })
        expect(answer.status).toBe(500)
        yield* accepted(refresh(node))
        yield* node.logged("from refresh-configuration to running")
        yield* end(node, "immediate")
      })
  },
  {
    name: "whose start fails and is begun anew by a refresh, and that is detached",
    options: { source, env: retries(0) },
    prepare: (bed) => void failBasebackup(bed),
    events: [
      "startup_begins",
      "startup_failed",
      "refresh_requested",
      "refresh_begins",
      ...started,
      "refresh_requested",
      "refresh_begins",
      "detached",
      "stopped"
    ],
    live: (node, bed) =>
      Effect.gen(function* () {
        yield* node.waitFor("failed")
        yield* accepted(refresh(node))
        yield* node.logged("compute start finished")
        bed.storage.controlPlane.empty(bed.computeId(), [])
        yield* accepted(refresh(node))
        expect((yield* node.exit).code).toBe(1)
      })
  }
]

for (const { events, live, name, options, prepare } of lives) {
  it.live(`a node ${name}`, () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      prepare?.(bed)
      const node = yield* bed.start(options)
      yield* live(node, bed)
      expect(logged(node.stderr())).toEqual(walk(events))
    })
  )
}

/** In this status a node is for less time than a request takes. */
it.live("what nobody outside can catch: the end of a spec that was accepted, and a changed certificate", () =>
  Effect.gen(function* () {
    for (const mode of ["fast", "immediate"] as const) {
      const bed = yield* makeBed()
      const { log, logging, node, hurry, exit } = yield* startInProcess(bed, { source })
      const { spec } = yield* Effect.repeat(Effect.delay(node.state, 10), {
        until: ({ status }) => status === "running"
      })
      printPosition(bed)
      yield* Effect.andThen(node.certificateChanged, node.certificateChanged).pipe(Effect.provide(logging))
      yield* Effect.repeat(Effect.delay(node.state, 10), { until: ({ status }) => status === "running" })
      if (spec === undefined) throw new Error("it runs without a spec")
      const [outcome, ended] = yield* Effect.all([node.submitSpec(spec, undefined), node.terminate(mode)]).pipe(
        Effect.provide(logging)
      )
      expect(yield* Effect.flip(outcome)).toMatchObject({ message: "the compute was terminated" })
      yield* ended
      yield* hurry
      expect(yield* exit).toBe(0)
      const expected = walk([
        ...started,
        "certificate_changed",
        "certificate_changed",
        "configuration_begins",
        "configuration_succeeded",
        "spec_accepted",
        mode === "fast" ? "terminate_fast" : "terminate_immediate",
        "stopped"
      ])
      expect(logged(log())).toEqual(expected)
    }
  })
)

it("every edge of the table was seen", () => {
  expect(edges.map(({ event, from }) => `${from} ${event}`).filter((edge) => !seen.has(edge))).toEqual([])
})
