/**
 * The state machine of a compute node, as one table.
 *
 * A move that is not listed here does not exist. The graph (`compute_ctl fsm`), the documentation, the gate of the HTTP
 * routes and the property tests read the same rows.
 */
import * as Schema from "effect/Schema"

/** Status as it stands in JSON (snake_case). Source: reference/http-api §6.1. */
export const ComputeStatus = Schema.Literals([
  "empty",
  "configuration_pending",
  "init",
  "running",
  "configuration",
  "failed",
  "termination_pending_fast",
  "termination_pending_immediate",
  "terminated",
  "refresh_configuration_pending",
  "refresh_configuration"
]).annotate({ identifier: "ComputeStatus" })
export type ComputeStatus = typeof ComputeStatus.Type

/** What happens to a node. */
export const ComputeEvent = Schema.Literals([
  "spec_accepted",
  "startup_begins",
  "startup_succeeded",
  "startup_failed",
  "configuration_begins",
  "configuration_succeeded",
  "configuration_failed",
  "certificate_changed",
  "refresh_requested",
  "refresh_begins",
  "refresh_succeeded",
  "refresh_attempt_failed",
  "refresh_gave_up",
  "detached",
  "terminate_fast",
  "terminate_immediate",
  "stopped"
])
export type ComputeEvent = typeof ComputeEvent.Type

export interface Edge {
  readonly from: ComputeStatus
  readonly event: ComputeEvent
  readonly to: ComputeStatus
}

const terminable = [
  "empty",
  "configuration_pending",
  "init",
  "running",
  "configuration",
  "failed",
  "refresh_configuration_pending",
  "refresh_configuration"
] as const satisfies ReadonlyArray<ComputeStatus>

/** The whole machine. */
export const edges: ReadonlyArray<Edge> = [
  { from: "empty", event: "spec_accepted", to: "configuration_pending" },
  { from: "empty", event: "startup_begins", to: "init" },
  { from: "configuration_pending", event: "startup_begins", to: "init" },
  { from: "configuration_pending", event: "configuration_begins", to: "configuration" },
  { from: "configuration_pending", event: "certificate_changed", to: "configuration_pending" },
  { from: "init", event: "startup_succeeded", to: "running" },
  { from: "init", event: "startup_failed", to: "failed" },
  { from: "init", event: "refresh_requested", to: "init" },
  { from: "configuration", event: "configuration_succeeded", to: "running" },
  { from: "configuration", event: "configuration_failed", to: "failed" },
  { from: "running", event: "spec_accepted", to: "configuration_pending" },
  { from: "running", event: "certificate_changed", to: "configuration_pending" },
  { from: "running", event: "refresh_requested", to: "refresh_configuration_pending" },
  { from: "failed", event: "refresh_requested", to: "refresh_configuration_pending" },
  { from: "refresh_configuration_pending", event: "refresh_requested", to: "refresh_configuration_pending" },
  { from: "refresh_configuration_pending", event: "refresh_begins", to: "refresh_configuration" },
  { from: "refresh_configuration_pending", event: "refresh_gave_up", to: "failed" },
  { from: "refresh_configuration", event: "refresh_succeeded", to: "running" },
  { from: "refresh_configuration", event: "refresh_attempt_failed", to: "refresh_configuration_pending" },
  { from: "refresh_configuration", event: "startup_begins", to: "init" },
  { from: "refresh_configuration", event: "detached", to: "termination_pending_immediate" },
  ...terminable.flatMap(
    (from): ReadonlyArray<Edge> => [
      { from, event: "terminate_fast", to: "termination_pending_fast" },
      { from, event: "terminate_immediate", to: "termination_pending_immediate" }
    ]
  ),
  { from: "termination_pending_fast", event: "terminate_fast", to: "termination_pending_fast" },
  { from: "termination_pending_fast", event: "terminate_immediate", to: "termination_pending_immediate" },
  { from: "termination_pending_immediate", event: "terminate_fast", to: "termination_pending_immediate" },
  { from: "termination_pending_immediate", event: "terminate_immediate", to: "termination_pending_immediate" },
  { from: "termination_pending_fast", event: "stopped", to: "terminated" },
  { from: "termination_pending_immediate", event: "stopped", to: "terminated" }
]

const targets = new Map(edges.map((edge) => [`${edge.from} ${edge.event}`, edge.to]))

/** Where an event leads from a status; `undefined` when the machine has no such edge. */
export const next = (from: ComputeStatus, event: ComputeEvent): ComputeStatus | undefined =>
  targets.get(`${from} ${event}`)

/** Spelling in logs, metric labels and 412 texts (kebab-case). */
export const display = (status: ComputeStatus): string => status.replaceAll("_", "-")

/** Spelling in the errors of `/refresh_configuration` (CamelCase). */
export const debugName = (status: ComputeStatus): string =>
  status
    .split("_")
    .map((word) => word.slice(0, 1).toUpperCase() + word.slice(1))
    .join("")

/** On the way down: nothing but the end follows. */
export const isEnding = (status: ComputeStatus): boolean =>
  status === "termination_pending_fast" || status === "termination_pending_immediate" || status === "terminated"

/** Every status that a node can come to from this one, itself first. `passes` leaves edges out. */
export const reachableFrom = (
  start: ComputeStatus,
  passes: (edge: Edge) => boolean = () => true
): ReadonlySet<ComputeStatus> => {
  const found = new Set([start])
  for (const status of found) {
    for (const edge of edges) if (edge.from === status && passes(edge)) found.add(edge.to)
  }
  return found
}
