/**
 * What `GET /metrics` of one emulated pageserver shows: requests that it cannot serve.
 *
 * The first family has the name of the original, which counts page requests alone; here it counts base backups and
 * leases too, since an unpatched Postgres asks for no pages.
 */
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import type { Absence } from "./Locations.ts"

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })

const misrouted = counter(
  "pageserver_misrouted_pagestream_requests_total",
  "Number of requests for a tenant, timeline or shard that is not on this pageserver"
)
const unservable = counter(
  "pageserver_unservable_requests_total",
  "The same requests by command and by what is not on this pageserver"
)

export type Command = "basebackup" | "lease" | "pagestream"
export type Reason = Absence | "timeline_not_found"

export interface PageserverMetrics {
  readonly count: (command: Command, reason: Reason) => void
  /** All that were counted. */
  readonly total: () => number
  /** Prometheus text, version 0.0.4. */
  readonly render: () => string
}

export const make = (): PageserverMetrics => {
  // A registry of its own: there are several pageservers, and a compute, in one process.
  const registry = Context.make(Metric.MetricRegistry, new Map())
  misrouted.updateUnsafe(0, registry)
  return {
    count: (command, reason) => {
      misrouted.updateUnsafe(1, registry)
      Metric.withAttributes(unservable, { command, reason }).updateUnsafe(1, registry)
    },
    total: () => misrouted.valueUnsafe(registry).count,
    render: () => PrometheusMetrics.formatUnsafe(registry)
  }
}
