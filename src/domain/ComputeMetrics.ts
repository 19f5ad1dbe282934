/** Start-up timings as `GET /metrics.json` shows them. Source: reference/startup §18. */
import * as Schema from "effect/Schema"

/** Whole milliseconds, bytes, or a count, as the name says; 0 until measured. */
const amount = Schema.Natural

export const ComputeMetrics = Schema.Struct({
  wait_for_spec_ms: amount,
  sync_sk_check_ms: amount,
  sync_safekeepers_ms: amount,
  pageserver_connect_micros: amount,
  basebackup_ms: amount,
  basebackup_bytes: amount,
  start_postgres_ms: amount,
  config_ms: amount,
  total_startup_ms: amount,
  load_ext_ms: amount,
  num_ext_downloaded: amount,
  largest_ext_size: amount,
  total_ext_download_size: amount
}).annotate({ identifier: "ComputeMetrics" })
export type ComputeMetrics = typeof ComputeMetrics.Type

export const none: ComputeMetrics = {
  wait_for_spec_ms: 0,
  sync_sk_check_ms: 0,
  sync_safekeepers_ms: 0,
  pageserver_connect_micros: 0,
  basebackup_ms: 0,
  basebackup_bytes: 0,
  start_postgres_ms: 0,
  config_ms: 0,
  total_startup_ms: 0,
  load_ext_ms: 0,
  num_ext_downloaded: 0,
  largest_ext_size: 0,
  total_ext_download_size: 0
}
