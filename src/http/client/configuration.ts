/** What `configure` takes. Browser safe. */
import type { ConfigurationRequest } from "../../domain/ComputeConfig.ts"
import type { ComputeSpec } from "../../domain/ComputeSpec.ts"

/** A bare spec, or a whole document as a node takes it by `--config`. */
export type ConfigurationDocument = typeof ComputeSpec.Encoded | typeof ConfigurationRequest.Encoded

const isObject = (value: unknown): value is object =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Whether a value can be sent: it is an object. What is missing or wrong in it the node says, with the field. */
export const isDocument = (value: unknown): value is ConfigurationDocument => isObject(value)

/** The keys in a request count for nothing: a node replaces its own only by those that it has fetched itself. */
const noKeys = { jwks: { keys: [] } }

/** Body of `POST /configure`. */
export const requestOf = (document: unknown): unknown => {
  if (!isObject(document)) return document
  return "spec" in document || "compute_ctl_config" in document
    ? { compute_ctl_config: noKeys, ...document }
    : { spec: document, compute_ctl_config: noKeys }
}
