/**
 * Who may call the external server: holders of a token that one of the node's keys has signed.
 *
 * All keys are tried in their order; neither `kid` nor `use` choose one. A token that was verified once is remembered
 * until it expires or the keys change; what it claims is looked at on each call. Keys are those of the node's state at
 * the moment of the call. Tokens are never logged. Source: reference/http-api §4.
 */
import { hash } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { Jwk, JwkSet } from "../domain/ComputeConfig.ts"
import { describeLine } from "../domain/describe.ts"
import { ComputeNode } from "../layers/ComputeNode.ts"
import { Params } from "../layers/Params.ts"
import * as E from "./api/Errors.ts"
import { Authorization } from "./api/Middleware.ts"

/** How far clocks may differ. */
const leewaySeconds = 60
const rememberedTokens = 256

const nullable = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

/** What is not of this shape makes the whole token invalid; other claims do not matter. */
const Claims = Schema.Struct({
  compute_id: nullable(Schema.String),
  scope: nullable(Schema.Literal("compute_ctl:admin")),
  aud: nullable(Schema.Array(Schema.String)),
  exp: Schema.optionalKey(Schema.Unknown)
})
type Claims = typeof Claims.Type
const decodeClaims = Schema.decodeUnknownEffect(Schema.fromJsonString(Claims))

const unverified = () => new E.Unauthorized({ message: "failed to verify authorization token" })

const expired = (claims: Claims, nowMillis: number): boolean =>
  typeof claims.exp === "number" && Math.round(claims.exp) < Math.floor(nowMillis / 1000) - leewaySeconds

/** Public part of a key that can serve the algorithm; purpose and algorithm it names itself are not consulted. */
const publicKey = (key: Jwk, algorithm: "EdDSA" | "RS256") => {
  if (algorithm === "EdDSA") {
    return key.kty === "OKP" && key.crv === "Ed25519" ? { kty: key.kty, crv: key.crv, x: key.x } : undefined
  }
  return key.kty === "RSA" ? { kty: key.kty, n: key.n, e: key.e } : undefined
}

/** One key's word on a token: its payload, or undefined. Why not is logged. */
const tryKey = (token: string, key: Jwk, algorithm: "EdDSA" | "RS256") => {
  const material = publicKey(key, algorithm)
  if (material === undefined) return Effect.undefined
  return Effect.tryPromise(async () => {
    const jose = await import("jose")
    const imported = await jose.importJWK(material, algorithm)
    return (await jose.compactVerify(token, imported, { algorithms: [algorithm] })).payload
  }).pipe(
    Effect.catch((error) =>
      Effect.as(
        Effect.logWarning(
          `failed to decode authorization token using ${key.kid ?? "a key without id"}: ${describeLine(error.cause)}`
        ),
        undefined
      )
    )
  )
}

/** Claims of a token that one of the keys has signed. */
const verify = Effect.fnUntraced(function* ({ keys }: JwkSet, token: string) {
  // One RS256 key switches the whole set over.
  const algorithm = keys.some((key) => key.alg === "RS256") ? "RS256" : "EdDSA"
  for (const key of keys) {
    const payload = yield* tryKey(token, key, algorithm)
    if (payload !== undefined) return yield* decodeClaims(new TextDecoder().decode(payload))
  }
  return yield* unverified()
}, Effect.mapError(unverified))

/** Tokens that one set of keys has signed, by their hash, with what they claim. */
class Remembered {
  readonly keys: JwkSet
  // What is used moves to the younger half; the older one is forgotten when that is full.
  private young = new Map<string, Claims>()
  private old = new Map<string, Claims>()

  constructor(keys: JwkSet) {
    this.keys = keys
  }

  get(id: string): Claims | undefined {
    const known = this.young.get(id)
    if (known !== undefined) return known
    const older = this.old.get(id)
    if (older !== undefined) this.set(id, older)
    return older
  }

  set(id: string, claims: Claims): void {
    if (this.young.size >= rememberedTokens / 2) {
      this.old = this.young
      this.young = new Map()
    }
    this.young.set(id, claims)
  }

  delete(id: string): void {
    this.young.delete(id)
    this.old.delete(id)
  }
}

const permit = (claims: Claims, computeId: string | undefined): Effect.Effect<void, E.Unauthorized | E.Forbidden> => {
  if (claims.scope === "compute_ctl:admin") {
    if (claims.aud === undefined || claims.aud === null) {
      return Effect.fail(new E.Unauthorized({ message: "missing audience in authorization token claims" }))
    }
    return claims.aud.includes("compute")
      ? Effect.void
      : Effect.fail(new E.Unauthorized({ message: "invalid audience in authorization token claims" }))
  }
  if (claims.compute_id === undefined || claims.compute_id === null) {
    return Effect.fail(new E.Forbidden({ message: "missing compute_id in authorization token claims" }))
  }
  return claims.compute_id === computeId
    ? Effect.void
    : Effect.fail(new E.Forbidden({ message: "invalid compute ID in authorization token claims" }))
}

export const layerAuthorization = Layer.effect(
  Authorization,
  Effect.gen(function* () {
    const node = yield* ComputeNode
    const params = yield* Params
    // A stray INSTANCE_ID must not open the server: only together with lakebase mode.
    const isOpen = params.instanceId !== undefined && params.lakebaseMode
    let remembered = new Remembered({ keys: [] })

    const check = Effect.fnUntraced(function* (credential: string) {
      // "" stands for a missing header, another scheme, or a scheme alone.
      if (credential === "" || !/^[\x20-\x7e]+$/u.test(credential)) {
        return yield* new E.BadRequest({ message: "invalid authorization token" })
      }
      const { keys } = yield* node.state
      if (remembered.keys !== keys) remembered = new Remembered(keys)
      const memory = remembered
      const id = hash("sha256", credential, "base64")
      const known = memory.get(id)
      const claims = known ?? (yield* verify(keys, credential))
      if (expired(claims, yield* Clock.currentTimeMillis)) {
        memory.delete(id)
        return yield* unverified()
      }
      if (known === undefined) memory.set(id, claims)
      yield* permit(claims, params.computeId)
    })

    return {
      bearer: (httpEffect, { credential }) =>
        isOpen ? httpEffect : Effect.andThen(check(Redacted.value(credential)), httpEffect)
    }
  })
)
