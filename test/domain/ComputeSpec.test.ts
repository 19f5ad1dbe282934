import { readFileSync } from "node:fs"
import { assert, describe, expect, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import {
  ComputeConfig,
  decodeComputeConfig,
  decodeComputeSpec,
  decodeConfigurationRequest,
  decodeControlPlaneConfigResponse,
  decodePromoteConfig,
  Jwk,
  parseJson
} from "../../src/domain/ComputeConfig.ts"
import { ComputeSpec, findSetting, hasFeature } from "../../src/domain/ComputeSpec.ts"
import * as Lsn from "../../src/domain/Lsn.ts"
import { firstIssue } from "../../src/domain/schemaIssue.ts"

const document = (name: string): unknown =>
  Result.getOrThrow(parseJson(readFileSync(new URL(`../golden/specs/${name}.json`, import.meta.url), "utf8")))

const cluster = { roles: [], databases: [] }
const minimal = { format_version: 1, suspend_timeout_seconds: -1, cluster }
const spec = (members: object): ComputeSpec => Result.getOrThrow(decodeComputeSpec({ ...minimal, ...members }))
const problem = (members: object): string => {
  const decoded = decodeComputeSpec({ ...minimal, ...members })
  return Result.isFailure(decoded) ? firstIssue(decoded.failure) : "accepted"
}
const keys = (...keys: ReadonlyArray<unknown>) => ({ compute_ctl_config: { jwks: { keys } } })
const keyProblem = (key: unknown): string => {
  const decoded = decodeComputeConfig(keys(key))
  return Result.isFailure(decoded) ? firstIssue(decoded.failure) : "accepted"
}

describe("ComputeSpec", () => {
  it("S-008 optional members default sensibly", () => {
    assert.deepStrictEqual(spec({}), {
      format_version: 1,
      features: [],
      cluster,
      skip_pg_catalog_updates: false,
      safekeeper_connstrings: [],
      mode: { _tag: "Primary" },
      reconfigure_concurrency: 1,
      drop_subscriptions_before_start: false,
      audit_log_level: "Disabled",
      autoprewarm: false,
      suspend_timeout_seconds: -1
    })
  })

  it("S-009 unknown members are dropped at every level", () => {
    const decoded = spec({
      timestamp: "now",
      cluster: { ...cluster, databases: [{ name: "a", owner: "b", invalid: 5 }] }
    })
    assert.deepStrictEqual(decoded.cluster.databases, [{ name: "a", owner: "b" }])
    assert.isFalse("timestamp" in decoded)
  })

  it("the document with every member decodes, and encodes back to what it said", () => {
    const full = document("full")
    const config = Result.getOrThrow(decodeComputeConfig(full))
    assert.deepStrictEqual(config.spec?.mode, { _tag: "Primary" })
    assert.strictEqual(Object.keys(config.spec ?? {}).length, Object.keys(ComputeSpec.fields).length)
    const encoded = Schema.encodeSync(ComputeConfig)(config)
    expect(full).toMatchObject(encoded)
  })

  it("the smallest document decodes", () => {
    assert.isTrue(Result.isSuccess(decodeComputeConfig(document("minimal"))))
  })

  it.prop("a spec survives its way over the wire", [ComputeSpec], ([value]) => {
    const text = JSON.stringify(Schema.encodeSync(ComputeSpec)(value))
    const back = Result.getOrThrow(decodeComputeSpec(JSON.parse(text)))
    return Schema.toEquivalence(ComputeSpec)(back, value)
  })

  it.each([
    ["Primary", { _tag: "Primary" }],
    ["Replica", { _tag: "Replica" }],
    [{ Primary: null }, { _tag: "Primary" }],
    [{ Replica: null }, { _tag: "Replica" }],
    [{ Static: " 0/28f10D8" }, { _tag: "Static", lsn: Lsn.fromBigInt(0x28f10d8n) }]
  ])("mode %j is understood", (mode, expected) => {
    assert.deepStrictEqual<unknown>(spec({ mode }).mode, expected)
  })

  it("modes are written in their short form", () => {
    const write = (mode: unknown) => Schema.encodeSync(ComputeSpec)(spec({ mode })).mode
    assert.strictEqual(write({ Replica: null }), "Replica")
    assert.deepStrictEqual(write({ Static: "0/28f10d8" }), { Static: "0/28F10D8" })
  })

  const modes = 'Expected "Primary", "Replica" or {"Static": "<LSN>"}'
  it.each([
    [{ mode: "primary" }, `mode: ${modes}`],
    [{ mode: "Static" }, `mode: ${modes}`],
    [{ mode: null }, `mode: ${modes}`],
    [{ mode: { Static: 5 } }, "mode.Static: Expected string"],
    [{ mode: { Static: "0/x" } }, "mode.Static: Expected an LSN such as 0/28F10D8"],
    [{ mode: { Primary: null, Static: "0/1" } }, "mode.Primary: Expected a single mode"],
    [{ format_version: "1" }, "format_version: Expected number"],
    [{ format_version: "NaN" }, "format_version: Expected number"],
    [{ features: null }, "features: Expected an array"],
    [{ skip_pg_catalog_updates: null }, "skip_pg_catalog_updates: Expected boolean"],
    [{ reconfigure_concurrency: "2" }, "reconfigure_concurrency: Expected number"],
    [{ reconfigure_concurrency: -1 }, "reconfigure_concurrency: Expected a value greater than or equal to 0"],
    [{ swap_size_bytes: 1.5 }, "swap_size_bytes: Expected an integer"],
    [{ safekeepers_generation: 2 ** 32 }, "safekeepers_generation: Expected a value between 0 and 4294967295"],
    [{ offload_lfc_interval_seconds: 0 }, "offload_lfc_interval_seconds: Expected a value greater than or equal to 1"],
    [{ suspend_timeout_seconds: null }, "suspend_timeout_seconds: Expected number"],
    [{ tenant_id: "6f0d" }, "tenant_id: Expected 32 hex digits"],
    [{ tenant_id: 5 }, "tenant_id: Expected string | null"],
    [
      { audit_log_level: "loud" },
      'audit_log_level: Expected "Disabled" | "Log" | "Base" | "Hipaa" | "Extended" | "Full"'
    ],
    [{ cluster: [] }, "cluster: Expected an object"],
    [{ cluster: { roles: [] } }, "cluster.databases: Missing key"],
    [{ cluster: { ...cluster, roles: [{ name: "a" }, { name: 5 }] } }, "cluster.roles[1].name: Expected string"],
    [
      { cluster: { ...cluster, settings: [{ name: "a", value: 5, vartype: "integer" }] } },
      "cluster.settings[0].value: Expected string | null"
    ],
    [{ pgbouncer_settings: { pool_size: 5 } }, "pgbouncer_settings.pool_size: Expected string"],
    [
      { pageserver_connection_info: { shard_count: 256, shards: {} } },
      "pageserver_connection_info.shard_count: Expected a value between 0 and 255"
    ],
    [
      { pageserver_connection_info: { shard_count: 1, shards: { "1": { pageservers: [] } } } },
      'pageserver_connection_info.shards["1"]: Expected a shard index of 4 hex digits such as 0102'
    ],
    [
      { pageserver_connection_info: { shard_count: 1, shards: {}, prefer_protocol: null } },
      'pageserver_connection_info.prefer_protocol: Expected "libpq" | "grpc"'
    ]
  ])("%j is refused with the way to the mistake", (members, expected) => {
    assert.strictEqual(problem(members), expected)
  })

  it("null and absent are the same where a member is optional", () => {
    assert.strictEqual(
      problem({ tenant_id: null, cluster: { ...cluster, settings: null }, pgbouncer_settings: null }),
      "accepted"
    )
  })

  it("features that nobody knows are kept and have no effect", () => {
    const decoded = spec({ features: ["tls_experimental", "time_travel"] })
    assert.isTrue(hasFeature(decoded, "tls_experimental"))
    assert.isFalse(hasFeature(decoded, "activity_monitor_experimental"))
    assert.deepStrictEqual(decoded.features, ["tls_experimental", "time_travel"])
  })

  it("only the first setting of a name counts, and a null value is not found", () => {
    const settings = [
      { name: "a", value: null, vartype: "string" },
      { name: "a", value: "x", vartype: "string" },
      { name: "b", value: "y", vartype: "string" },
      { name: "b", value: "z", vartype: "string" }
    ]
    const decoded = spec({ cluster: { ...cluster, settings } })
    assert.deepStrictEqual(
      ["a", "b", "c"].map((name) => findSetting(decoded, name)),
      [undefined, "y", undefined]
    )
  })

  it("names that mean something to JavaScript are keys like any other", () => {
    const json = Result.getOrThrow(parseJson('{"__proto__": "polluted", "constructor": "x"}'))
    const decoded = spec({ pgbouncer_settings: json }).pgbouncer_settings
    assert.deepStrictEqual(Object.entries(decoded ?? {}), [
      ["__proto__", "polluted"],
      ["constructor", "x"]
    ])
    assert.isUndefined(Reflect.get({}, "polluted"))
  })

  it("a refusal never repeats the value, whatever the decoder was told", () => {
    const decoded = Schema.decodeUnknownResult(ComputeSpec, { reportInput: true })({
      ...minimal,
      tenant_id: "hunter2",
      storage_auth_token: ["hunter2"]
    })
    const strict = Schema.decodeUnknownResult(ComputeSpec, { reportInput: true, onExcessProperty: "error" })({
      ...minimal,
      password: "hunter2"
    })
    assert.isTrue(Result.isFailure(decoded) && Result.isFailure(strict))
    for (const result of [decoded, strict]) {
      if (Result.isFailure(result)) assert.notInclude(firstIssue(result.failure), "hunter2")
    }
  })
})

describe("ComputeConfig", () => {
  const production = {
    use: "sig",
    key_ops: ["verify"],
    alg: "EdDSA",
    kid: "NNptJ3YhKUhwwOCPBViVSqQYttsfz68EcpMvktpaYRM",
    kty: "OKP",
    crv: "Ed25519",
    x: "EbPwYztwhaB5XJR_6QZgc6fmnkRHf5MABEobt-7SjFQ"
  }

  it.each([
    production,
    { kty: "EC", crv: "P-256", x: "a", y: "b", use: "something" },
    { kty: "RSA", n: "a", e: "b", kid: null },
    { kty: "oct", k: "a", "x5t#S256": "c" },
    { ...production, unknown: 5 }
  ])("the key %j is understood", (key) => {
    assert.strictEqual(keyProblem(key), "accepted")
  })

  it("a key keeps its form on the way back", () => {
    const decoded = Schema.decodeUnknownSync(Jwk)(production)
    assert.deepStrictEqual<unknown>(Schema.encodeSync(Jwk)(decoded), production)
  })

  it.each([
    [{ ...production, alg: "ES512" }, /keys\[0\]\.alg: Expected "HS256" \| .*"RSA-OAEP-256"$/u],
    [{ ...production, crv: "P-25" }, /keys\[0\]\.crv: Expected "P-256" \| "P-384" \| "P-521" \| "Ed25519"$/u],
    [{ kty: "EC", crv: "P-256", x: "a" }, /keys\[0\]\.y: Missing key$/u],
    [{ ...production, "x5t#S256": 5 }, /keys\[0\]\["x5t#S256"\]: Expected string \| null$/u],
    [{ kty: "new" }, /keys\[0\]: Expected an object with "kty": "EC" \| "RSA" \| "oct" \| "OKP"$/u]
  ])("the key %j is refused", (key, expected) => {
    assert.match(keyProblem(key), expected)
  })

  it("a file may lack the spec, but not the configuration of the keys", () => {
    assert.isTrue(Result.isSuccess(decodeComputeConfig({ ...keys(), spec: null })))
    assert.isTrue(Result.isSuccess(decodeComputeConfig(keys())))
    const bare = decodeComputeConfig(minimal)
    assert.strictEqual(Result.isFailure(bare) && firstIssue(bare.failure), "compute_ctl_config: Missing key")
    const text = decodeComputeConfig("spec")
    assert.strictEqual(Result.isFailure(text) && firstIssue(text.failure), "Expected an object")
  })

  it("the control plane says whether the compute is attached", () => {
    assert.isTrue(Result.isSuccess(decodeControlPlaneConfigResponse({ status: "empty", ...keys() })))
    const missing = decodeControlPlaneConfigResponse(keys())
    assert.strictEqual(Result.isFailure(missing) && firstIssue(missing.failure), "status: Missing key")
  })

  it("the bodies of /configure and /promote need a spec", () => {
    const configure = decodeConfigurationRequest({ ...keys(), spec: null })
    assert.strictEqual(Result.isFailure(configure) && firstIssue(configure.failure), "spec: Expected an object")
    const promote = decodePromoteConfig({ spec: minimal, wal_flush_lsn: "0/28F10D8" })
    assert.strictEqual(Result.getOrThrow(promote).wal_flush_lsn, Lsn.fromBigInt(0x28f10d8n))
  })
})
