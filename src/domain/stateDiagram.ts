/** The state machine for people and for programs: as a Mermaid diagram, and as one document. */
import { ComputeEvent, ComputeStatus, display, type Edge, edges, isEnding } from "./ComputeStatus.ts"

/** What each status means, as Markdown. */
export const statuses: Record<ComputeStatus, string> = {
  empty: "No spec. The node waits for `POST /configure`",
  configuration_pending: "A spec was accepted and waits to be served",
  init: "PGDATA is made, Postgres is started",
  running: "Postgres accepts connections and the spec is applied",
  configuration: "Another spec is being applied to the running Postgres",
  failed: "A start or a configuration failed, `error` of `/status` says why",
  termination_pending_fast: "Going down; afterwards the node can be asked for 30 s",
  termination_pending_immediate: "Going down; the process ends as soon as that is done",
  terminated: "Postgres is gone and the safekeepers are synced",
  refresh_configuration_pending: "The configuration may be stale and will be fetched",
  refresh_configuration: "The configuration is being fetched and applied"
}

/** What each event is, as Markdown. */
export const events: Record<ComputeEvent, string> = {
  spec_accepted: "`POST /configure` with a usable spec",
  startup_begins: "A spec is known and the start begins",
  startup_succeeded: "Postgres accepts connections",
  startup_failed: "A stage of the start failed",
  configuration_begins: "The worker takes the accepted spec",
  configuration_succeeded: "It was applied",
  configuration_failed: "It could not be applied",
  certificate_changed: "The server certificate was replaced",
  refresh_requested: "`POST /refresh_configuration`",
  refresh_begins: "The worker takes the request",
  refresh_succeeded: "What was fetched is applied, or was already",
  refresh_attempt_failed: "It could not be fetched or applied",
  refresh_gave_up: "No attempt is left and no Postgres runs",
  detached: "The control plane says that this compute has no spec any more",
  terminate_fast: "`POST /terminate?mode=fast`",
  terminate_immediate: "`POST /terminate?mode=immediate`, SIGTERM, SIGINT or SIGQUIT",
  stopped: "Postgres is gone and the safekeepers are synced"
}

/** Statuses of a node that is not on its way down. */
export const alive = ComputeStatus.literals.filter((status) => !isEnding(status))

/** Leads to the same status from every one that is alive. */
const isGeneral = ({ event, to }: Edge): boolean =>
  alive.every((from) => edges.some((edge) => edge.from === from && edge.event === event && edge.to === to))

const fromAnywhere = (edge: Edge): boolean => alive.some((status) => status === edge.from) && isGeneral(edge)

/** Edges that every status that is alive has, and the others. */
export const general = edges.filter(fromAnywhere)
export const special = edges.filter((edge) => !fromAnywhere(edge))

/** One arrow for all events between two statuses. */
const arrows = (from: string, rows: ReadonlyArray<Edge>): ReadonlyArray<string> => {
  const labels = new Map<ComputeStatus, Set<ComputeEvent>>()
  for (const { event, to } of rows) labels.set(to, (labels.get(to) ?? new Set()).add(event))
  return [...labels].map(([to, names]) => `    ${from} --> ${to} : ${[...names].join(", ")}`)
}

/** The diagram in Mermaid's language. */
export const mermaid = (): string =>
  [
    "stateDiagram-v2",
    "    [*] --> empty",
    ...ComputeStatus.literals.flatMap((status) =>
      arrows(
        status,
        special.filter(({ from }) => from === status)
      )
    ),
    '    state "any status that does not end the node" as alive',
    ...arrows("alive", general),
    "    terminated --> [*]"
  ].join("\n")

/** Everything, for programs; each edge by itself. */
export const document = () => ({
  initial: "empty",
  final: ["terminated"],
  statuses: ComputeStatus.literals.map((name) => ({ name, display: display(name), meaning: statuses[name] })),
  events: ComputeEvent.literals.map((name) => ({ name, meaning: events[name] })),
  edges
})
