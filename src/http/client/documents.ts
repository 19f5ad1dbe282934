/** Answers as they are on the wire, for declarations. */
import type * as Schemas from "../api/Schemas.ts"

export type ComputeStatusResponse = typeof Schemas.ComputeStatusResponse.Encoded
export type StartupTimeline = typeof Schemas.StartupTimeline.Encoded
export type ReconcileResponse = typeof Schemas.ReconcileResponse.Encoded
