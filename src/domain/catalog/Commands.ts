/** How `compute_ctl plan` and `compute_ctl validate` were started. */
import type { PostgresTarget } from "../ConnString.ts"

export interface PlanParams {
  /** Path of a `ComputeConfig`. */
  readonly config: string
  /** The server to compare with. */
  readonly postgres: PostgresTarget
  readonly privilegedRoleName: string
  readonly lakebaseMode: boolean
  /** Enters every database, whatever is remembered of it. */
  readonly full: boolean
  readonly json: boolean
}

export interface ValidateParams {
  /** Path of a `ComputeConfig`. */
  readonly config: string
  readonly json: boolean
}
