/** The command line and the environment as a service. */
import * as Context from "effect/Context"
import type { ComputeParams } from "../domain/ComputeParams.ts"

export class Params extends Context.Service<Params, ComputeParams>()("compute/layers/Params") {}
