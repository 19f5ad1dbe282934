/**
 * WAL positions.
 *
 * An `Lsn` is an unsigned 64-bit byte offset into WAL, held as a `bigint`. Text form `HI/LO`: upper-case hex, no
 * padding (`0/28F10D8`). `0/0` is the value for "none" and "latest". Source: reference/compute-spec §7.3.
 */
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"

const pattern = /^\s*\+?0*[0-9a-fA-F]{1,8}\/\+?0*[0-9a-fA-F]{1,8}\s*$/u
const Text = Schema.String.check(Schema.isPattern(pattern, { expected: "an LSN such as 0/28F10D8" }))
const Value = Schema.BigInt.check(Schema.isBetweenBigInt({ minimum: 0n, maximum: (1n << 64n) - 1n })).pipe(
  Schema.brand("Lsn")
)

const parseText = (text: string): bigint => {
  const [high = "0", low = "0"] = text.trim().split("/")
  const half = (digits: string): bigint => BigInt(`0x${digits.replace("+", "")}`)
  return (half(high) << 32n) | half(low)
}

/** Text form of a position, as Postgres prints `pg_lsn`. */
export const format = (lsn: bigint): string =>
  `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`

/** WAL position. Text on the wire, `bigint` inside. */
export const Lsn = Text.pipe(
  Schema.decodeTo(Value, { decode: SchemaGetter.transform(parseText), encode: SchemaGetter.transform(format) })
).annotate({ identifier: "Lsn" })
export type Lsn = typeof Lsn.Type

/** A position from a number that is known to be in range; throws outside of 64 bits. */
export const fromBigInt = (value: bigint): Lsn => Value.make(value)

/** Decodes the text form; `undefined` when it is none. */
export const parse = (text: string): Lsn | undefined => (pattern.test(text) ? fromBigInt(parseText(text)) : undefined)

/** `0/0`: no position, or the latest one, by context. */
export const zero: Lsn = fromBigInt(0n)
