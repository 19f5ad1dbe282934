import { createHmac, createPublicKey, generateKeyPairSync } from "node:crypto"
import { describe, expect, it } from "@effect/vitest"
import type { Jwk } from "../../src/domain/ComputeConfig.ts"
import {
  computeId,
  configuration,
  jsonBody,
  jwkOf,
  newKey,
  ownKey,
  ownToken,
  request,
  start,
  token
} from "./harness.ts"

const seconds = (offset: number): number => Math.floor(Date.now() / 1000) + offset
const withToken = (text: string) => ({ headers: { authorization: `Bearer ${text}` } })
const admin = { compute_id: null, scope: "compute_ctl:admin" }
const own = { compute_id: computeId }

const stranger = newKey()
const publicPem = createPublicKey(ownKey).export({ type: "spki", format: "pem" }).toString()
const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url")
const unsigned = (header: object): string => `${encode(header)}.${encode(own)}.`

/** As a verifier would take it that lets the token choose the algorithm. */
const forged = (secret: Buffer): string => {
  const signed = `${encode({ alg: "HS256" })}.${encode(own)}`
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`
}

const invalid = [400, "invalid authorization token"] as const
const unverified = [401, "failed to verify authorization token"] as const

describe("token transport", () => {
  it.each([
    ["no header", {}],
    ["another scheme", { authorization: "Basic x" }],
    ["the scheme alone", { authorization: "Bearer" }],
    ["the scheme and spaces", { authorization: "Bearer   " }],
    ["no space", { authorization: `Bearer${ownToken}` }],
    ["not visible ASCII", { authorization: `Bearer ${ownToken}\u00ff` }]
  ])("S-057 %s is 400", async (_name, headers) => {
    await using node = await start()
    const reply = await request(node.externalPort, "GET /status", { headers })
    expect([reply.status, reply.json]).toEqual([invalid[0], { error: invalid[1] }])
    expect(reply.headers["www-authenticate"]).toBeUndefined()
  })

  it("the scheme is compared without case", async () => {
    await using node = await start()
    for (const scheme of ["bearer", "BEARER"]) {
      const reply = await request(node.externalPort, "GET /status", {
        headers: { authorization: `${scheme} ${ownToken}` }
      })
      expect(reply.status).toBe(200)
    }
  })

  it("comes before query, body and gate, after path and method", async () => {
    await using node = await start()
    expect((await request(node.externalPort, "GET /nope")).status).toBe(404)
    expect((await request(node.externalPort, "GET /configure")).status).toBe(405)
    for (const what of ["POST /terminate?x=1", "POST /configure", "GET /database_schema", "POST /check_writability"]) {
      expect((await request(node.externalPort, what)).status, what).toBe(400)
      expect((await request(node.externalPort, what)).json, what).toEqual({ error: invalid[1] })
    }
  })
})

describe("signature", () => {
  it.each([
    ["not a token", "abc"],
    ["two words", "abc def"],
    ["a key of its own", token(newKey(), own)],
    ["another algorithm in the header", token(ownKey, own, { alg: "HS256" })],
    ["no algorithm", token(ownKey, own, { alg: "none" })],
    [
      "a changed payload",
      ownToken.replace(/\.[^.]+\./u, `.${Buffer.from(JSON.stringify(admin)).toString("base64url")}.`)
    ],
    ["no algorithm and no signature", unsigned({ alg: "none" })],
    ["a signature that is empty", unsigned({ alg: "EdDSA" })],
    ["HMAC with the public key, as it stands in the set", forged(Buffer.from(jwkOf(ownKey).x))],
    ["HMAC with the bytes of the public key", forged(Buffer.from(jwkOf(ownKey).x, "base64url"))],
    ["HMAC with the public key as PEM", forged(Buffer.from(publicPem))],
    ["a key that it brings along", token(stranger, own, { alg: "EdDSA", jwk: jwkOf(stranger) })],
    ["what must be understood", token(ownKey, own, { alg: "EdDSA", crit: ["x"], x: 1 })],
    ["four parts", `${ownToken}.${ownToken.split(".")[2]}`],
    ["a very long token", `${ownToken}${"A".repeat(8000)}`],
    ["a payload that is no JSON", token(ownKey, "{")],
    ["a payload that is no object", token(ownKey, "[]")]
  ])("S-058 %s is 401", async (_name, text) => {
    await using node = await start()
    const reply = await request(node.externalPort, "GET /status", withToken(text))
    expect([reply.status, reply.json]).toEqual([unverified[0], { error: unverified[1] }])
  })

  it("a token that is refused changes nothing, whatever it asks for", async () => {
    await using node = await start()
    const refused = [forged(Buffer.from(publicPem)), unsigned({ alg: "none" }), token(ownKey, { compute_id: "other" })]
    for (const text of refused) {
      const { headers } = withToken(text)
      const bodies = [await request(node.externalPort, "POST /terminate", { headers })]
      const json = jsonBody(configuration)
      bodies.push(
        await request(node.externalPort, "POST /configure", { ...json, headers: { ...json.headers, ...headers } })
      )
      for (const { json, status } of bodies) {
        expect([401, 403]).toContain(status)
        expect(json).toEqual({ error: expect.any(String) })
      }
    }
    expect((await node.external("GET /status")).json).toMatchObject({ status: "empty", tenant: null })
  })

  it("no keys: nothing verifies", async () => {
    await using node = await start({ keys: [] })
    expect((await request(node.externalPort, "GET /status", withToken(ownToken))).status).toBe(401)
  })

  it("all keys are tried in their order; neither kid nor purpose choose one", async () => {
    const second = newKey()
    const keys: ReadonlyArray<Jwk> = [
      { kty: "oct", k: "c2VjcmV0" },
      { kty: "OKP", crv: "Ed25519", x: "garbage" },
      jwkOf(ownKey, { use: "enc", key_ops: ["sign"], kid: "first" }),
      jwkOf(second, { kid: null })
    ]
    await using node = await start({ keys })
    for (const key of [ownKey, second]) {
      const text = token(key, own, { alg: "EdDSA", kid: "neither" })
      expect((await request(node.externalPort, "GET /status", withToken(text))).status).toBe(200)
    }
  })

  it("one RS256 key switches the set to RS256", async () => {
    const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey
    const { e = "", n = "" } = rsa.export({ format: "jwk" })
    await using node = await start({ keys: [jwkOf(ownKey), { kty: "RSA", n, e, alg: "RS256" }] })
    const rs256 = token(rsa, own, { alg: "RS256" })
    expect((await request(node.externalPort, "GET /status", withToken(rs256))).status).toBe(200)
    const other = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey
    const pem = createPublicKey(rsa).export({ type: "spki", format: "pem" }).toString()
    for (const text of [ownToken, token(other, own, { alg: "RS256" }), forged(Buffer.from(pem))]) {
      const reply = await request(node.externalPort, "GET /status", withToken(text))
      expect([reply.status, reply.json]).toEqual([unverified[0], { error: unverified[1] }])
    }
  })

  it("replaced keys count from the next request on, also for tokens seen before", async () => {
    await using node = await start()
    expect((await request(node.externalPort, "GET /status", withToken(ownToken))).status).toBe(200)
    const next = newKey()
    await node.run(node.node.update((state) => ({ ...state, keys: { keys: [jwkOf(next)] } })))
    expect((await request(node.externalPort, "GET /status", withToken(ownToken))).status).toBe(401)
    expect((await request(node.externalPort, "GET /status", withToken(token(next, own)))).status).toBe(200)
  })
})

describe("a token that was verified", () => {
  /** Where the first key fails, each verification says so. */
  const watched = async () => {
    let verifications = 0
    const node = await start({
      keys: [jwkOf(stranger, { kid: "first" }), jwkOf(ownKey)],
      log: (line) => {
        if (line.includes("failed to decode authorization token using first")) verifications++
      }
    })
    const ask = async (text: string) => (await request(node.externalPort, "GET /status", withToken(text))).status
    return { node, ask, count: () => verifications, [Symbol.asyncDispose]: node.close }
  }

  it("is not verified again, until the keys change", async () => {
    await using watch = await watched()
    for (let turn = 0; turn < 5; turn++) expect(await watch.ask(ownToken)).toBe(200)
    expect(watch.count()).toBe(1)
    await watch.node.run(watch.node.node.update((state) => ({ ...state, keys: { keys: [...state.keys.keys] } })))
    expect(await watch.ask(ownToken)).toBe(200)
    expect(watch.count()).toBe(2)
  })

  it("is refused for what it claims each time, verified or not", async () => {
    await using watch = await watched()
    const other = token(ownKey, { compute_id: "other" })
    expect([await watch.ask(other), await watch.ask(other)]).toEqual([403, 403])
    expect(watch.count()).toBe(1)
  })

  it("is forgotten for others, the one used last at the end", async () => {
    await using watch = await watched()
    expect(await watch.ask(ownToken)).toBe(200)
    for (let index = 0; index < 300; index++) {
      expect(await watch.ask(token(ownKey, { ...own, index }))).toBe(200)
      if (index % 50 === 0) await watch.ask(ownToken)
    }
    expect(watch.count()).toBe(301)
    expect(await watch.ask(token(ownKey, { ...own, index: 0 }))).toBe(200)
    expect(watch.count()).toBe(302)
  })

  it("one that was refused is verified each time", async () => {
    await using watch = await watched()
    const bad = token(newKey(), own)
    expect([await watch.ask(bad), await watch.ask(bad)]).toEqual([401, 401])
    expect(watch.count()).toBe(2)
  })
})

describe("claims", () => {
  it.each([
    ["S-056 the compute's id alone", own, 200, undefined],
    ["explicit nulls beside it", { ...own, scope: null, aud: null }, 200, undefined],
    ["unknown claims", { ...own, nbf: seconds(1000), iss: 7, sub: null }, 200, undefined],
    ["an audience that nobody looks at", { ...own, aud: ["elsewhere"] }, 200, undefined],
    ["S-055 admin with the audience", { ...admin, aud: ["compute"] }, 200, undefined],
    ["admin among other audiences", { ...admin, aud: ["x", "compute"] }, 200, undefined],
    ["admin of another compute", { ...admin, compute_id: "other", aud: ["compute"] }, 200, undefined],
    ["admin without audience", admin, 401, "missing audience in authorization token claims"],
    ["admin with a null audience", { ...admin, aud: null }, 401, "missing audience in authorization token claims"],
    ["admin with another audience", { ...admin, aud: ["x"] }, 401, "invalid audience in authorization token claims"],
    [
      "admin with no audience in the list",
      { ...admin, aud: [] },
      401,
      "invalid audience in authorization token claims"
    ],
    ["S-054 no claims", {}, 403, "missing compute_id in authorization token claims"],
    ["a null id", { compute_id: null }, 403, "missing compute_id in authorization token claims"],
    ["another compute", { compute_id: "other" }, 403, "invalid compute ID in authorization token claims"],
    ["an unknown scope", { ...own, scope: "compute_ctl:user" }, 401, unverified[1]],
    ["a text as audience", { ...own, aud: "compute" }, 401, unverified[1]],
    ["a number as id", { compute_id: 7 }, 401, unverified[1]],
    ["not expired", { ...own, exp: seconds(60) }, 200, undefined],
    ["expired within the leeway", { ...own, exp: seconds(-50) }, 200, undefined],
    ["expired", { ...own, exp: seconds(-70) }, 401, unverified[1]],
    ["expired, with a fraction", { ...own, exp: seconds(-70) + 0.5 }, 401, unverified[1]],
    ["an expiry that is no number", { ...own, exp: "yesterday" }, 200, undefined],
    ["a null expiry", { ...own, exp: null }, 200, undefined]
  ] as const)("%s", async (_name, claims, status, error) => {
    await using node = await start()
    const reply = await request(node.externalPort, "GET /status", withToken(token(ownKey, claims)))
    expect(reply.status).toBe(status)
    if (error !== undefined) expect(reply.json).toEqual({ error })
  })

  it("any accepted token opens every route", async () => {
    await using node = await start({ events: ["startup_begins", "startup_succeeded"] })
    for (const what of ["GET /status", "GET /metrics.json", "GET /lfc/prewarm", "GET /lfc/offload"]) {
      expect((await request(node.externalPort, what, withToken(ownToken))).status, what).toBe(200)
    }
    // No Postgres listens here.
    expect((await request(node.externalPort, "POST /check_writability", withToken(ownToken))).status).toBe(500)
  })

  it("a remembered token expires too", async () => {
    await using node = await start()
    const text = token(ownKey, { ...own, exp: seconds(-58) })
    expect((await request(node.externalPort, "GET /status", withToken(text))).status).toBe(200)
    await expect
      .poll(async () => (await request(node.externalPort, "GET /status", withToken(text))).status, {
        timeout: 10_000,
        interval: 200
      })
      .toBe(401)
  })
})

describe("what needs no token", () => {
  it("S-059 metrics and the internal server", async () => {
    await using node = await start()
    expect((await request(node.externalPort, "GET /metrics")).status).toBe(200)
    expect((await request(node.externalPort, "GET /autoscaling_metrics")).status).toBe(500)
    expect((await node.internal("POST /extension_server/x")).status).toBe(412)
    // Test clients send their token everywhere.
    expect((await node.internal("POST /extension_server/x", withToken("abc"))).status).toBe(412)
  })

  it("S-060 an instance id opens the external server in lakebase mode, and there only", async () => {
    await using open = await start({ keys: [], params: { instanceId: "", lakebaseMode: true } })
    expect((await request(open.externalPort, "GET /status")).status).toBe(200)
    for (const params of [{ instanceId: "i-1" }, { lakebaseMode: true }]) {
      await using closed = await start({ keys: [], params })
      expect((await request(closed.externalPort, "GET /status")).status).toBe(400)
    }
  })
})
