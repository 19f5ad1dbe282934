/**
 * The page of the state machine: the diagram that `compute_ctl fsm` prints, and its rows as tables.
 *
 *     scripts/node build/stateMachine.ts [docs/state-machine.md]
 */
import { ComputeEvent, ComputeStatus, display } from "../src/domain/ComputeStatus.ts"
import { alive, events, general, mermaid, special, statuses } from "../src/domain/stateDiagram.ts"
import * as Generated from "./generated.ts"

/** Name of the part of the document. */
export const part = "state-machine"

const code = (text: string): string => `\`${text}\``

const edgeRows = (): ReadonlyArray<ReadonlyArray<string>> => [
  ...special.map(({ event, from, to }) => [code(from), code(event), code(to)]),
  ...[...new Map(general.map(({ event, to }) => [event, to]))].map(([event, to]) => [
    alive.map(code).join(", "),
    code(event),
    code(to)
  ])
]

export const stateMachine = (): string =>
  [
    `\`\`\`mermaid\n${mermaid()}\n\`\`\``,
    "## Transitions",
    Generated.table(["From", "Event", "To"], edgeRows()),
    "## Events",
    Generated.table(
      ["Event", "What happened"],
      ComputeEvent.literals.map((event) => [code(event), events[event]])
    ),
    "## Statuses",
    Generated.table(
      ["In JSON", "In logs, metrics and 412 answers", "Meaning"],
      ComputeStatus.literals.map((status) => [code(status), code(display(status)), statuses[status]])
    )
  ].join("\n\n")

if (import.meta.main) Generated.main(process.argv.slice(2), part, stateMachine())
