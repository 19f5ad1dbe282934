/** What a run of the benchmark of the catalogs tells of each step. */
import * as Schema from "effect/Schema"

export const CatalogFigure = Schema.Struct({
  label: Schema.String,
  /** From the text of the document to the end of the apply. */
  millis: Schema.Number,
  /** Of these: until the document is read and checked. */
  decodeMillis: Schema.Number,
  transactions: Schema.Number,
  roundTrips: Schema.Number,
  statements: Schema.Number,
  connections: Schema.Number,
  peakConnections: Schema.Number,
  /** Undefined: not of our process alone. */
  peakMib: Schema.optionalKey(Schema.UndefinedOr(Schema.Number))
})
export type CatalogFigure = typeof CatalogFigure.Type
