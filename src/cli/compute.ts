/** The node as the default command runs it: spec fetched, servers up, life lived, exit code returned. */
import { constants } from "node:os"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Boot } from "../domain/Boot.ts"
import type { ComputeParams } from "../domain/ComputeParams.ts"
import * as ComputeState from "../domain/ComputeState.ts"
import { describe } from "../domain/describe.ts"
import * as ParsedSpec from "../domain/ParsedSpec.ts"
import { HttpServers } from "../http/serve.ts"
import { ComputeNode } from "../layers/ComputeNode.ts"
import { type Config, ControlPlane } from "../layers/ControlPlane.ts"
import { DataDirectory } from "../layers/DataDirectory.ts"
import * as Failpoints from "../layers/Failpoints.ts"
import * as Logging from "../layers/Logging.ts"
import { Loops } from "../layers/Loops.ts"
import { Metrics } from "../layers/Metrics.ts"
import { Owner } from "../layers/Owner.ts"
import { Pageserver } from "../layers/Pageserver.ts"
import { Params } from "../layers/Params.ts"
import { Postgres } from "../layers/Postgres.ts"
import { Safekeepers } from "../layers/Safekeepers.ts"
import { Signals } from "../layers/Signals.ts"
import { Sql } from "../layers/Sql.ts"
import { life } from "../programs/Compute.ts"
import { endOnSignal } from "../programs/endOnSignal.ts"

/** Context of the trace that this start continues. */
const traceParent = (boot: Boot) =>
  Option.getOrUndefined(
    HttpTraceContext.fromHeaders(
      Headers.fromInput({ traceparent: boot.traceparent ?? "", tracestate: boot.tracestate ?? "" })
    )
  )

/** With `--spec-path` the id of the compute may come from the spec. */
const withComputeId = (params: ComputeParams, config: Config): ComputeParams => ({
  ...params,
  computeId: params.computeId ?? config.spec?.endpoint_id ?? "compute"
})

/** The node with a configuration at hand: from the first transition to the exit code. */
const node = (config: Config, boot: Boot, observe: Observe) =>
  Effect.gen(function* () {
    const compute = yield* ComputeNode
    const metrics = yield* Metrics
    const hurry = yield* Deferred.make<void>()
    const loops = yield* Loops
    const { computeId = "", instanceId, lakebaseMode } = yield* Params
    /** The id of the instance is given in lakebase mode alone. */
    const setAttached = (spec: ParsedSpec.ParsedSpec | undefined) =>
      spec === undefined || instanceId === undefined || !lakebaseMode
        ? Effect.void
        : metrics.setAttached({ computeId, instanceId, tenantId: spec.tenantId, timelineId: spec.timelineId })
    const followState = Stream.runForEach(compute.changes, (state) =>
      Effect.andThen(metrics.setStatus(state.status), setAttached(ComputeState.visibleSpec(state)))
    )
    yield* Effect.forkScoped(loops.run("status", followState))
    yield* Effect.forkScoped(loops.run("signals", endOnSignal(hurry)))
    yield* Effect.forkScoped(observe(compute))
    const parent = traceParent(boot)
    if (parent !== undefined) yield* Effect.logInfo("got startup tracing context from env variables")
    const { pending } = yield* compute.state
    const whole = life({
      first: pending === undefined ? undefined : { spec: pending, parent, done: undefined },
      tls: config.computeCtlConfig.tls !== undefined && config.computeCtlConfig.tls !== null,
      hurry: Deferred.await(hurry)
    })
    return yield* loops.run("life", whole).pipe(
      // The ports are taken before PGDATA is touched, and answer until the end.
      Effect.provide(HttpServers.layer)
    )
  }).pipe(Effect.scoped)

/** State of a node at its start: with a spec it is never seen `empty`. */
const initialState = (config: Config) =>
  Effect.gen(function* () {
    const state = ComputeState.initial(Date.now(), config.computeCtlConfig.jwks)
    if (config.spec === undefined) return state
    return { ...state, pending: yield* Effect.fromResult(ParsedSpec.parse(config.spec)) }
  })

const begin = Effect.gen(function* () {
  const compute = yield* ComputeNode
  const { pending } = yield* compute.state
  if (pending !== undefined) yield* compute.transition("startup_begins")
})

/** What a command may watch while its node lives. */
export type Observe = (node: ComputeNode["Service"]) => Effect.Effect<void>

const program = (boot: Boot, observe: Observe) =>
  Effect.gen(function* () {
    const params = yield* Params
    yield* Effect.logInfo("logging and tracing started")
    yield* Effect.logInfo(`compute build_tag: ${params.buildTag}`)
    if (params.source._tag === "SpecFile") {
      yield* Effect.logWarning(
        "--spec-path brings no keys: every route that needs a token answers 401, use --config to give some"
      )
    }
    const config = yield* Effect.raceFirst(
      Effect.flatMap(ControlPlane, (controlPlane) => controlPlane.boot),
      Effect.flatMap(Signals, (signals) => signals.next)
    )
    if (typeof config === "string") {
      yield* Effect.logInfo(`received ${constants.signals[config]} termination signal`)
      return 0 // nothing has begun
    }
    const state = yield* initialState(config)
    const Node = ComputeNode.layer(state)
    const Services = Layer.mergeAll(DataDirectory.layer, Postgres.layer, Pageserver.layer, Safekeepers.layer, Sql.layer)
    return yield* Effect.andThen(begin, node(config, boot, observe)).pipe(
      Effect.provide(Layer.mergeAll(Node, Services)),
      Effect.provideService(Params, withComputeId(params, config))
    )
  })

/** Ends the process where it stands, as a crash would. */
const crash = Effect.sync(() => process.exit(1))

/** Runs a node to its end; the value is the exit code. Fails with what went wrong before HTTP was up. */
export const compute = (params: ComputeParams, boot: Boot, observe: Observe) =>
  program(boot, observe).pipe(
    Effect.provide(
      Layer.mergeAll(ControlPlane.layer, Owner.layer(params.runAs), Signals.layer).pipe(
        Layer.provideMerge(Metrics.layer(params.buildTag)),
        Layer.provideMerge(params.failpoints === undefined ? Layer.empty : Failpoints.layer(params.failpoints, crash))
      )
    ),
    Effect.provideService(Params, params)
  )

/** The default command. What fails before HTTP is up is told on stderr, exit code 1. */
export const main = (params: ComputeParams, boot: Boot): Effect.Effect<number> =>
  compute(params, boot, () => Effect.void).pipe(
    Effect.catch((error) =>
      Effect.sync(() => {
        Logging.writeRaw(`Error: ${describe(error)}`)
        return 1
      })
    ),
    Effect.provide(Logging.layer({ rustLog: boot.rustLog }))
  )
