/** What handlers say before they do anything. Source: reference/http-api §5.2, §9. */
import * as Effect from "effect/Effect"
import * as ComputeStatus from "../../domain/ComputeStatus.ts"
import type { ComputeNode, IllegalTransition } from "../../layers/ComputeNode.ts"
import * as E from "../api/Errors.ts"

/** The status does not allow it. Callers grep this text. */
export const refusedBy = ({ message }: IllegalTransition) => new E.PreconditionFailed({ message })

/** A snapshot: the status may change while the handler works. */
export const requireRunning = (node: ComputeNode["Service"]): Effect.Effect<void, E.PreconditionFailed> =>
  Effect.flatMap(node.state, ({ status }) =>
    status === "running"
      ? Effect.void
      : Effect.fail(new E.PreconditionFailed({ message: `invalid compute status: ${ComputeStatus.display(status)}` }))
  )

export const notImplemented = (what: string): Effect.Effect<never, E.NotImplemented> =>
  Effect.fail(new E.NotImplemented({ message: `${what} is not implemented` }))
