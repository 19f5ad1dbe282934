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

/** One measurement of the load process. */
export const LoadRequest = Schema.Struct({
  port: Schema.Number,
  path: Schema.String,
  token: Schema.String,
  connections: Schema.Number,
  /** Ends after so many requests, after so many seconds, or when it is told to stop. */
  requests: Schema.optionalKey(Schema.Number),
  seconds: Schema.optionalKey(Schema.Number),
  /** Requests a second; as many as there are answers without it. */
  rate: Schema.optionalKey(Schema.Number)
})
export type LoadRequest = typeof LoadRequest.Type

/** Times in milliseconds. */
export const LoadReport = Schema.Struct({
  requests: Schema.Number,
  seconds: Schema.Number,
  p50: Schema.Number,
  p99: Schema.Number,
  max: Schema.Number
})
export type LoadReport = typeof LoadReport.Type

/** Sent in the place of a report. */
export const LoadFailed = Schema.Struct({ failed: Schema.String })
