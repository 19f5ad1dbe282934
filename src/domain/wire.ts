/** Building blocks of wire documents. Source: reference/compute-spec §16. */
import * as Schema from "effect/Schema"

/** An optional member: absent and `null` mean the same. */
export const optional = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const upTo = (maximum: number) => Schema.Finite.check(Schema.isInt(), Schema.isBetween({ minimum: 0, maximum }))
export const u8 = upTo(0xff)
export const u32 = upTo(0xffffffff)
