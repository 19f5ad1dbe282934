/**
 * Tells the services beside Postgres what the spec has for them, at the start and at each reconfiguration.
 *
 * In the Scope, beside everything else: a service that is not there or does not take it is logged, and stops nothing.
 * Source: reference/startup §9 (10), §19.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { ParsedSpec } from "../domain/ParsedSpec.ts"
import { Params } from "../layers/Params.ts"

const machinery = Effect.promise(() => import("../layers/sideServices.ts"))

/** One at a time, in order: the last one counts. */
const turns = { pgbouncer: Semaphore.makeUnsafe(1), localProxy: Semaphore.makeUnsafe(1) }

const told = <R>(
  turn: Semaphore.Semaphore,
  what: string,
  work: Effect.Effect<void, { readonly message: string }, R>
): Effect.Effect<void, never, R | Scope.Scope> =>
  Effect.logInfo(what).pipe(
    Effect.andThen(work),
    Effect.catch(({ message }) => Effect.logError(`error while ${what}: ${message}`)),
    turn.withPermits(1),
    Effect.forkScoped,
    Effect.asVoid
  )

export const tellSideServices = Effect.fnUntraced(function* ({ spec }: ParsedSpec) {
  const { autoscaling, dev, environment } = yield* Params
  const settings = spec.pgbouncer_settings ?? undefined
  const proxy = spec.local_proxy_config ?? undefined
  if (settings === undefined && proxy === undefined) return
  if (dev) return yield* Effect.logInfo("pgbouncer and local_proxy are left alone because of --dev")
  const { tellLocalProxy, tellPgbouncer } = yield* machinery
  if (settings !== undefined) {
    const password = environment["PGBOUNCER_PASSWORD"]
    yield* told(turns.pgbouncer, "tuning pgbouncer", tellPgbouncer(settings, { autoscaling, password }))
  }
  if (proxy !== undefined) yield* told(turns.localProxy, "configuring local_proxy", tellLocalProxy(proxy))
})
