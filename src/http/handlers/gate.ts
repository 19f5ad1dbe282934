/** What handlers say before they do anything, and when Postgres refuses. Source: reference/http-api §5.2, §9. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { visibleSpec } from "../../domain/ComputeState.ts"
import * as ComputeStatus from "../../domain/ComputeStatus.ts"
import type { ParsedSpec } from "../../domain/ParsedSpec.ts"
import type { ComputeNode, IllegalTransition } from "../../layers/ComputeNode.ts"
import { isUnreachable, type PgError } from "../../layers/PgWire.ts"
import * as E from "../api/Errors.ts"

/** The status does not allow it. Callers grep this text. */
export const refusedBy = ({ message }: IllegalTransition) => new E.PreconditionFailed({ message })

const invalidStatus = (status: ComputeStatus.ComputeStatus) =>
  new E.PreconditionFailed({ message: `invalid compute status: ${ComputeStatus.display(status)}` })

/** A snapshot: the status may change while the handler works. */
export const requireRunning = (node: ComputeNode["Service"]): Effect.Effect<void, E.PreconditionFailed> =>
  Effect.flatMap(node.state, ({ status }) => (status === "running" ? Effect.void : Effect.fail(invalidStatus(status))))

/** The spec that is live or being started. */
export const requireSpec = (node: ComputeNode["Service"]): Effect.Effect<ParsedSpec, E.PreconditionFailed> =>
  Effect.flatMap(node.state, (state) => {
    const spec = visibleSpec(state)
    return spec === undefined ? Effect.fail(invalidStatus(state.status)) : Effect.succeed(spec)
  })

/** Postgres that cannot be reached is not there; whatever else it says is its answer. */
export const refusedBySql =
  (prefix = "") =>
  (error: PgError): E.Unavailable | E.InternalError => {
    const message = `${prefix}${error.message}`
    return isUnreachable(error) ? new E.Unavailable({ message }) : new E.InternalError({ message })
  }

/** A client that leaves stops nothing: work that changes something goes on in the scope of the server. */
export const goingOn =
  (server: Scope.Scope) =>
  <A, Err, R>(work: Effect.Effect<A, Err, R>): Effect.Effect<A, Err, R> =>
    Effect.flatMap(Effect.forkIn(work, server), Fiber.join)

export const notImplemented = (what: string): Effect.Effect<never, E.NotImplemented> =>
  Effect.fail(new E.NotImplemented({ message: `${what} is not implemented` }))
