/** What a call of the client may fail with, beside the errors that the API itself has. Browser safe. */
import * as Data from "effect/Data"
import type { ComputeStatus } from "../../domain/ComputeStatus.ts"
import * as Errors from "../api/Errors.ts"
import type { ComputeStatusResponse } from "./documents.ts"

/** An error that the node answered, by its status: 400 `BadRequest` … 503 `Unavailable`. */
export type ApiError = InstanceType<(typeof Errors)[keyof typeof Errors]>

/**
 * No whole answer: nobody listens, the connection broke, or the deadline passed. What was asked for may have happened all
 * the same.
 */
export class Unreachable extends Data.TaggedError("Unreachable")<{
  readonly message: string
  /** Of the server; undefined where none was given. */
  readonly url: string | undefined
  readonly cause?: unknown
}> {}

/** An answer that is not of this API: another status, or a body of another shape. */
export class UnexpectedAnswer extends Data.TaggedError("UnexpectedAnswer")<{
  readonly message: string
  readonly status: number
}> {}

/** The node cannot come to the status that is waited for, or not without being asked to. */
export class StatusUnattainable extends Data.TaggedError("StatusUnattainable")<{
  readonly message: string
  readonly wanted: ComputeStatus
  readonly seen: ComputeStatusResponse
}> {}

/** The node did not come to the status in time. */
export class WaitTimeout extends Data.TaggedError("WaitTimeout")<{
  readonly message: string
  readonly wanted: ComputeStatus
  /** Undefined where no node ever answered. */
  readonly seen: ComputeStatusResponse | undefined
}> {}

/** What every call may fail with, whatever its route declares. */
export type CommonError =
  | Errors.BadRequest
  | Errors.NotFound
  | Errors.MethodNotAllowed
  | Errors.InternalError
  | Errors.NotImplemented
  | Errors.Unavailable
  | Unreachable
  | UnexpectedAnswer

const classes = new Map(Object.values(Errors).map((one) => [one.status, one]))
const statuses = new Map(Object.values(Errors).map((one) => [one.identifier, one.status]))

/** Class of a status; what has no class is not of this API. */
export const errorOf = (status: number, message: string): ApiError | UnexpectedAnswer => {
  const found = classes.get(status)
  return found === undefined ? new UnexpectedAnswer({ status, message }) : new found({ message })
}

/** HTTP status of an error; undefined where none was answered. */
export const statusOf = (error: ApiError | CommonError): number | undefined => {
  if (error._tag === "Unreachable") return undefined
  return error._tag === "UnexpectedAnswer" ? error.status : statuses.get(error._tag)
}
