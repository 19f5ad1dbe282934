/**
 * Which calls are made again when no answer came, or a 503. Browser safe.
 *
 * What only asks is: GET, but for probes. Of the others those that do nothing more the second time; the rest may have been done although
 * no answer came, so that is for the caller to find out.
 */
import * as Effect from "effect/Effect"
import type * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as Schedule from "effect/Schedule"
import type { ExternalApi } from "../api/ExternalApi.ts"
import type { InternalApi } from "../api/InternalApi.ts"
import type { ApiError, UnexpectedAnswer, Unreachable } from "./errors.ts"
import type { Route } from "./surface.ts"

type Groups =
  | (typeof ExternalApi)["groups"][keyof (typeof ExternalApi)["groups"]]
  | (typeof InternalApi)["groups"][keyof (typeof InternalApi)["groups"]]

type Name = HttpApiGroup.Endpoints<Groups>["identifier"]

/** Routes that are not GET, and probes, with the reason. Of what is missing here only GET is made again. */
const decided: { readonly [Route in Name]?: readonly [again: boolean, why: string] } = {
  configure: [false, "it may be applied by now, or be in the middle of it"],
  terminate: [false, "by then another node may listen there, and would be ended"],
  promote: [false, "the first one may have made it the primary"],
  prewarm: [false, "it begins the work"],
  cancelPrewarm: [true, "what is cancelled stays so"],
  offload: [false, "it begins the work"],
  checkWritability: [true, "the same row is written"],
  download: [false, "it begins the work"],
  install: [false, "it may be installed by now; then that is what the second answer would not say"],
  grant: [true, "what is granted stays so"],
  refreshConfiguration: [true, "wake-ups coalesce"],
  configureFailpoints: [false, "a count may be used up by now, and would begin anew"],
  healthz: [false, "its 503 is the answer"],
  readyz: [false, "its 503 is the answer"],
  liveness: [false, "its 503 is the answer"]
}

const table = new Map(Object.entries(decided))

export const mayRepeat = ({ method, name }: Pick<Route, "method" | "name">): boolean =>
  table.get(name)?.[0] ?? method === "GET"

/** Some 100, 200, 400 ms …: a node that restarts, or a dropped connection, is over soon. */
const pauses = Schedule.jittered(Schedule.exponential("100 millis"))

/** Tries again where nobody answered, or the node could not at this moment. */
export const repeating =
  (times: number) =>
  <A>(call: Effect.Effect<A, ApiError | UnexpectedAnswer | Unreachable>) =>
    Effect.retry(call, {
      schedule: pauses,
      times,
      while: ({ _tag }) => _tag === "Unreachable" || _tag === "Unavailable"
    })
