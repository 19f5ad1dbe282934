/** How many databases are worked on at once. Source: reference/catalog §4.3, decision K6. */
import { type ComputeSpec, findSetting } from "../ComputeSpec.ts"

const fallback = 10

const unsigned = (text: string): number | undefined => {
  const value = /^\d+$/u.test(text) ? Number(text) : Number.NaN
  return Number.isSafeInteger(value) ? value : undefined
}

const maxConnections = (spec: ComputeSpec): number | undefined => {
  const setting = findSetting(spec, "max_connections")
  if (setting !== undefined) return unsigned(setting)
  for (const line of (spec.cluster.postgresql_conf ?? "").split("\n")) {
    const equals = line.indexOf("=")
    if (equals < 0 || line.slice(0, equals).trim() !== "max_connections") continue
    const value = unsigned(line.slice(equals + 1).trim())
    if (value !== undefined) return value
  }
  return undefined
}

/** At the start nobody else is connected: a good part of all connections. */
export const atStart = (spec: ComputeSpec): number => {
  const limit = maxConnections(spec)
  if (limit === undefined) return fallback
  if (limit < 10) return Math.max(1, limit)
  if (limit < 30) return 10
  return limit >= 300 ? 100 : Math.floor(limit / 3)
}

export const atReconfigure = (spec: ComputeSpec): number => Math.max(1, spec.reconfigure_concurrency)
