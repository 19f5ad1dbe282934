/** Ids of the storage: 16 bytes as 32 lower-case hex digits. Source: reference/compute-spec §7.1. */
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"

const hex32 = (identifier: string) =>
  Schema.String.check(Schema.isPattern(/^[0-9a-fA-F]{32}$/u, { expected: "32 hex digits" })).annotate({ identifier })
const lowerHex32 = Schema.String.check(Schema.isPattern(/^[0-9a-f]{32}$/u, { expected: "32 lower-case hex digits" }))
const lower = {
  decode: SchemaGetter.transform((text: string) => text.toLowerCase()),
  encode: SchemaGetter.transform((text: string) => text)
}

/** Tenant of the storage; upper case is accepted and printed lower. */
export const TenantId = hex32("TenantId").pipe(Schema.decodeTo(lowerHex32.pipe(Schema.brand("TenantId")), lower))
export type TenantId = typeof TenantId.Type

/** Timeline (branch) of a tenant; upper case is accepted and printed lower. */
export const TimelineId = hex32("TimelineId").pipe(Schema.decodeTo(lowerHex32.pipe(Schema.brand("TimelineId")), lower))
export type TimelineId = typeof TimelineId.Type
