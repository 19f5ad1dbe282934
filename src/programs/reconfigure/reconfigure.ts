/**
 * Makes a running Postgres be what another spec says, without a restart.
 *
 * postgresql.conf is written anew and read (confirmed through a session), unless Postgres has read that very file; then a
 * primary's catalogs are brought in line. The caller commits the spec when this has succeeded. Source: reference/startup
 * §16, decisions C1, C11, C12.
 */
import * as Effect from "effect/Effect"
import type { ParsedSpec } from "../../domain/ParsedSpec.ts"
import { ComputeNode } from "../../layers/ComputeNode.ts"
import { DataDirectory } from "../../layers/DataDirectory.ts"
import * as Failpoints from "../../layers/Failpoints.ts"
import { Metrics } from "../../layers/Metrics.ts"
import { configureAsPrimary } from "../catalog/configure.ts"
import { reload, restoreLimits, withSubscribers } from "../catalog/override.ts"
import { reloading } from "../reloading.ts"
import { renderConf } from "../renderConf.ts"
import { tellSideServices } from "../sideServices.ts"

/** `full`: what was applied last is not known, every database is looked into. */
export const reconfigure = Effect.fn("reconfigure")(function* (spec: ParsedSpec, full: boolean) {
  const directory = yield* DataDirectory
  const metrics = yield* Metrics
  const node = yield* ComputeNode
  const reloads = yield* reloading
  yield* Failpoints.pass("compute-configuration-before-apply")
  const conf = yield* renderConf(spec)
  if (full || !(yield* directory.isLoaded(withSubscribers(conf)))) {
    yield* directory.writeConf(conf)
    yield* restoreLimits
    yield* reload(reloads)
  }
  yield* tellSideServices(spec)
  yield* configureAsPrimary(spec, "reconfigure", {
    ...reloads,
    migrationFailed: metrics.migrationFailed,
    statementTimedOut: metrics.statementTimedOut,
    applied: (lastApply) => node.update((state) => ({ ...state, lastApply })),
    full
  })
})
