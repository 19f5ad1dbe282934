/**
 * Keys of the local mode: one for the storage, one for the HTTP API of the compute. Made once, kept in files of mode 0600.
 *
 * Source: reference/storage-protocols §0.2, reference/http-api §4.6.
 */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { SignJWT } from "jose"
import type { Jwk } from "../domain/ComputeConfig.ts"
import type { TenantId } from "../domain/Identifiers.ts"

/** A key file cannot be read or written. */
export class KeysFailed extends Data.TaggedError("KeysFailed")<{
  readonly path: string
  readonly message: string
  readonly cause?: unknown
}> {}

type Token = Effect.Effect<Redacted.Redacted<string>>

export interface Keys {
  /** Verifies tokens of the storage. */
  readonly storagePublicKey: KeyObject
  /** `storage_auth_token` of a spec: everything on one tenant. */
  readonly storageToken: (tenantId: TenantId) => Token
  /** For `compute_ctl_config.jwks`. */
  readonly computeJwk: Jwk
  /** Bearer token of the external HTTP API, for one compute. */
  readonly computeToken: (computeId: string) => Token
  /** Bearer token of the external HTTP API, for every compute. */
  readonly adminToken: Token
}

const readOrMake = async (path: string): Promise<KeyObject> => {
  const text = await fs.readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return undefined
    throw cause
  })
  if (text !== undefined) return createPrivateKey(text)
  const { privateKey } = generateKeyPairSync("ed25519")
  const part = `${path}.part`
  await fs.writeFile(part, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 })
  await fs.rename(part, path)
  return privateKey
}

const jwk = (publicKey: KeyObject): Jwk => {
  const { x = "" } = publicKey.export({ format: "jwk" })
  return {
    kty: "OKP",
    crv: "Ed25519",
    alg: "EdDSA",
    use: "sig",
    key_ops: ["verify"],
    kid: createHash("sha256").update(Buffer.from(x, "base64url")).digest("base64url"),
    x
  }
}

/** Reads the keys in a directory, or makes them. */
export const open = Effect.fnUntraced(function* (directory: string) {
  const [storage, compute] = yield* Effect.tryPromise({
    try: async () => {
      await fs.mkdir(directory, { recursive: true, mode: 0o700 })
      return [
        await readOrMake(join(directory, "storage.pem")),
        await readOrMake(join(directory, "compute.pem"))
      ] as const
    },
    catch: (cause) =>
      new KeysFailed({
        path: directory,
        message: `the keys in ${directory} cannot be read or made: ${cause instanceof Error ? cause.message : cause}`,
        cause
      })
  })
  const sign = (key: KeyObject, claims: Record<string, unknown>): Token =>
    Effect.promise(async () =>
      Redacted.make(await new SignJWT(claims).setProtectedHeader({ alg: "EdDSA", typ: "JWT" }).sign(key))
    )
  const keys: Keys = {
    storagePublicKey: createPublicKey(storage),
    storageToken: (tenantId) => sign(storage, { scope: "tenant", tenant_id: tenantId }),
    computeJwk: jwk(createPublicKey(compute)),
    computeToken: (computeId) => sign(compute, { compute_id: computeId, scope: null, aud: null }),
    adminToken: sign(compute, { compute_id: null, scope: "compute_ctl:admin", aud: ["compute"] })
  }
  return keys
})
