/** A timeline by its two ids, as commands, options and configuration files name it. */
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { TenantId, TimelineId } from "../domain/Identifiers.ts"

export interface TimelineKey {
  readonly tenantId: TenantId
  readonly timelineId: TimelineId
}

const decodeTenant = Schema.decodeUnknownOption(TenantId)
const decodeTimeline = Schema.decodeUnknownOption(TimelineId)

/** `TENANT/TIMELINE` */
export const format = ({ tenantId, timelineId }: TimelineKey): string => `${tenantId}/${timelineId}`

/** Reads both ids; the failure is the original's text. */
export const parse = (tenant: string, timeline: string): Result.Result<TimelineKey, string> => {
  const tenantId = decodeTenant(tenant)
  if (Option.isNone(tenantId)) return Result.fail(`Failed to parse tenant id from ${tenant}`)
  const timelineId = decodeTimeline(timeline)
  if (Option.isNone(timelineId)) return Result.fail(`Failed to parse timeline id from ${timeline}`)
  return Result.succeed({ tenantId: tenantId.value, timelineId: timelineId.value })
}

/** Value of a setting that is 32 hex digits; the last of several counts, as for Postgres. */
const setting = (conf: string, name: string): string =>
  [...conf.matchAll(new RegExp(`^\\s*neon\\.${name}\\s*=?\\s*'?([0-9a-fA-F]{32})'?`, "gmu"))].at(-1)?.[1] ?? ""

/** Reads both ids from the text of a `postgresql.conf`. */
export const fromConf = (conf: string): Result.Result<TimelineKey, string> =>
  Result.mapError(
    parse(setting(conf, "tenant_id"), setting(conf, "timeline_id")),
    () => "postgresql.conf does not name the timeline (neon.tenant_id, neon.timeline_id)"
  )
