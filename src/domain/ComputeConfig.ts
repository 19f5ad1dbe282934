/**
 * The envelopes a spec travels in, and the keys that come with it.
 *
 * Source: reference/compute-spec §1–§3.
 */
import * as Schema from "effect/Schema"
import { ComputeSpec, TlsConfig } from "./ComputeSpec.ts"
import { Lsn } from "./Lsn.ts"
import { optional } from "./wire.ts"

export { parseJson } from "./json.ts"

const common = {
  use: optional(Schema.String),
  key_ops: optional(Schema.Array(Schema.String)),
  alg: optional(
    Schema.Literals([
      "HS256",
      "HS384",
      "HS512",
      "ES256",
      "ES384",
      "RS256",
      "RS384",
      "RS512",
      "PS256",
      "PS384",
      "PS512",
      "EdDSA",
      "RSA1_5",
      "RSA-OAEP",
      "RSA-OAEP-256"
    ])
  ),
  kid: optional(Schema.String),
  x5u: optional(Schema.String),
  x5c: optional(Schema.Array(Schema.String)),
  x5t: optional(Schema.String),
  "x5t#S256": optional(Schema.String)
}
const curve = Schema.Literals(["P-256", "P-384", "P-521", "Ed25519"])

/** One public (or shared) key. The content of the key material is looked at when a token is verified. */
export const Jwk = Schema.Union([
  Schema.Struct({ kty: Schema.Literal("EC"), crv: curve, x: Schema.String, y: Schema.String, ...common }),
  Schema.Struct({ kty: Schema.Literal("RSA"), n: Schema.String, e: Schema.String, ...common }),
  Schema.Struct({ kty: Schema.Literal("oct"), k: Schema.String, ...common }),
  Schema.Struct({ kty: Schema.Literal("OKP"), crv: curve, x: Schema.String, ...common })
]).annotate({ identifier: "Jwk", message: 'Expected an object with "kty": "EC" | "RSA" | "oct" | "OKP"' })
export type Jwk = typeof Jwk.Type

export const JwkSet = Schema.Struct({ keys: Schema.Array(Jwk) }).annotate({ identifier: "JwkSet" })
export type JwkSet = typeof JwkSet.Type

export const ComputeCtlConfig = Schema.Struct({ jwks: JwkSet, tls: optional(TlsConfig) }).annotate({
  identifier: "ComputeCtlConfig"
})
export type ComputeCtlConfig = typeof ComputeCtlConfig.Type

/** Document of `--config`. */
export const ComputeConfig = Schema.Struct({
  spec: optional(ComputeSpec),
  compute_ctl_config: ComputeCtlConfig
}).annotate({ identifier: "ComputeConfig" })
export type ComputeConfig = typeof ComputeConfig.Type

/** Answer of the control plane. `empty` without a spec: the compute is attached to no storage. */
export const ControlPlaneConfigResponse = Schema.Struct({
  spec: optional(ComputeSpec),
  status: Schema.Literals(["empty", "attached"]),
  compute_ctl_config: ComputeCtlConfig
}).annotate({ identifier: "ControlPlaneConfigResponse" })
export type ControlPlaneConfigResponse = typeof ControlPlaneConfigResponse.Type

/** Body of `POST /configure`. */
export const ConfigurationRequest = Schema.Struct({
  spec: ComputeSpec,
  compute_ctl_config: ComputeCtlConfig
}).annotate({ identifier: "ConfigurationRequest" })
export type ConfigurationRequest = typeof ConfigurationRequest.Type

/** Body of `POST /promote`. */
export const PromoteConfig = Schema.Struct({ spec: ComputeSpec, wal_flush_lsn: Lsn }).annotate({
  identifier: "PromoteConfig"
})
export type PromoteConfig = typeof PromoteConfig.Type

// Built once: a decoder costs more to make than to run.
export const decodeComputeSpec = Schema.decodeUnknownResult(ComputeSpec)
export const decodeComputeConfig = Schema.decodeUnknownResult(ComputeConfig)
export const decodeControlPlaneConfigResponse = Schema.decodeUnknownResult(ControlPlaneConfigResponse)
export const decodeConfigurationRequest = Schema.decodeUnknownResult(ConfigurationRequest)
export const decodePromoteConfig = Schema.decodeUnknownResult(PromoteConfig)
