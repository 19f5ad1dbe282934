/** What the benchmark and the process with the emulated storage say to each other. */
import * as Schema from "effect/Schema"

/** How the safekeepers answer once Postgres is down. */
export const Ending = Schema.Literals([
  /** All name one position: the quorum is enough. */
  "agree",
  /** None knows the timeline; `postgres --sync-safekeepers` prints the position at once, no image is made. */
  "stub",
  /** None knows the timeline; `postgres --sync-safekeepers` publishes the data directory, as the emulator does it. */
  "publish"
])
export type Ending = typeof Ending.Type

export const Request = Schema.Union([
  /** A document for a primary on that port; from now on the safekeepers agree. */
  Schema.TaggedStruct("Document", { port: Schema.Number }),
  Schema.TaggedStruct("End", { ending: Ending }),
  /** From now on the control plane serves this configuration, as text, for `attachedCompute`. */
  Schema.TaggedStruct("Attach", { config: Schema.String })
])
export type Request = typeof Request.Type

/** Sent once, when everything listens. */
export const Ready = Schema.Struct({
  /** Version of Postgres. */
  version: Schema.String,
  /** The real program, for ours and for the floor. */
  postgres: Schema.String,
  /** The emulator's stand-in, which tells the storage of each start. */
  stub: Schema.String,
  controlPlane: Schema.String,
  controlPlaneToken: Schema.String,
  /** Bearer token for the API of any compute. */
  token: Schema.String
})
export type Ready = typeof Ready.Type

/** Answer to `Document`. */
export const Documented = Schema.Struct({
  /** Text of a configuration file. */
  config: Schema.String,
  /** The base backup that will be served: path of the gzip'd tar. */
  archive: Schema.String
})
export type Documented = typeof Documented.Type

/** Answer to `End` and `Attach`. */
export const Done = Schema.Struct({ done: Schema.Literal(true) })

/** A compute that the control plane knows, and for which it has no spec. */
export const emptyCompute = "bench-empty"

/** The compute whose configuration the control plane serves. */
export const attachedCompute = "bench"
