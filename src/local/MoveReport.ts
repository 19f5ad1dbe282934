/** What became of a move of the timeline to another pageserver. */
import * as Schema from "effect/Schema"

const PageserverAddress = Schema.Struct({ id: Schema.Natural, url: Schema.String })

export const MoveReport = Schema.Struct({
  timeline_id: Schema.String,
  from: PageserverAddress,
  /** The same as `from` where there was nothing to do. */
  to: PageserverAddress,
  /** Milliseconds from the notification until a session that was open before saw the new address. */
  live_after: Schema.NullOr(Schema.Finite),
  /** Process id of the postmaster before and after; null where no session could be opened. */
  postmaster: Schema.NullOr(Schema.Struct({ before: Schema.String, after: Schema.String })),
  /** Why the compute does not have the new address; null where it has, or where there was nothing to do. */
  problem: Schema.NullOr(Schema.String)
})
export type MoveReport = typeof MoveReport.Type
