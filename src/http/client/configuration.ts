/** What `configure` takes. Browser safe. */
import type { ConfigurationRequest } from "../../domain/ComputeConfig.ts"
import type { ComputeSpec } from "../../domain/ComputeSpec.ts"

/** A bare spec, or a whole document as a node takes it by `--config`. */
export type ConfigurationDocument = typeof ComputeSpec.Encoded | typeof ConfigurationRequest.Encoded

/** The keys in a request count for nothing: a node replaces its own only by those that it has fetched itself. */
const noKeys = { jwks: { keys: [] } }

/** Body of `POST /configure`. What is wrong with a document the node says itself, with the name of the field. */
export const requestOf = (document: unknown): unknown => {
  if (typeof document !== "object" || document === null) return document
  return "spec" in document || "compute_ctl_config" in document
    ? { compute_ctl_config: noKeys, ...document }
    : { spec: document, compute_ctl_config: noKeys }
}
