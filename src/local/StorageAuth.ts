/**
 * Who may ask the storage what: EdDSA tokens with a scope.
 *
 * Source: reference/storage-protocols §0.2.
 */
import type { KeyObject } from "node:crypto"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { jwtVerify } from "jose"

/** The token is no token, is signed by another key, or is over. */
export class TokenRefused extends Data.TaggedError("TokenRefused")<{
  readonly message: string
  readonly cause?: unknown
}> {}

export const Claims = Schema.Struct({
  scope: Schema.Literals([
    "tenant",
    "tenantendpoint",
    "pageserverapi",
    "safekeeperdata",
    "generations_api",
    "admin",
    "infra",
    "scrubber",
    "controller_peer"
  ]),
  tenant_id: Schema.optionalKey(Schema.NullOr(Schema.String))
})
export type Claims = typeof Claims.Type

/** How a server lets clients in: everybody without a question, or who has a token that `verify` accepts. */
export type Authentication =
  | { readonly _tag: "Trust" }
  | { readonly _tag: "Token"; readonly verify: (token: string) => Effect.Effect<Claims, TokenRefused> }

export const trust: Authentication = { _tag: "Trust" }

const decodeClaims = Schema.decodeUnknownEffect(Claims)

/** Accepts tokens signed by the holder of this Ed25519 key. `exp` is checked where the token has one. */
export const tokens = (publicKey: KeyObject): Authentication => ({
  _tag: "Token",
  verify: (token) =>
    Effect.tryPromise({
      try: () => jwtVerify(token, publicKey, { algorithms: ["EdDSA"] }),
      catch: (cause) => new TokenRefused({ message: "the token does not verify", cause })
    }).pipe(
      Effect.flatMap(({ payload }) => decodeClaims(payload)),
      Effect.catchTag("SchemaError", (cause) =>
        Effect.fail(new TokenRefused({ message: "the claims of the token are not those of the storage", cause }))
      )
    )
})

/** Whether the holder of the claims may use that tenant; the failure is the reason in the original's words. */
export const permission = (
  claims: Claims | undefined,
  tenant: string,
  service: "Pageserver" | "Safekeeper"
): Result.Result<void, string> => {
  if (claims === undefined) return Result.succeed(undefined)
  if (claims.scope === (service === "Pageserver" ? "pageserverapi" : "safekeeperdata")) return Result.succeed(undefined)
  if (claims.scope !== "tenant") return Result.fail(`JWT scope '${claims.scope}' is ineligible for ${service} auth`)
  return claims.tenant_id === tenant ? Result.succeed(undefined) : Result.fail("Tenant id mismatch. Permission denied")
}
