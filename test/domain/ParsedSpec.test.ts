import { assert, describe, it } from "@effect/vitest"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { decodeComputeSpec } from "../../src/domain/ComputeConfig.ts"
import * as Describe from "../../src/domain/describe.ts"
import * as ParsedSpec from "../../src/domain/ParsedSpec.ts"

const tenant = "6f0d1c9a52b7e4830a1e5d7c94b2f860"
const timeline = "c41e7b0856d92fa3e8b6041d7f35a92c"
const complete = {
  tenant_id: tenant,
  timeline_id: timeline,
  pageserver_connstring: "postgresql://no_user@127.0.0.1:64000",
  safekeeper_connstrings: ["127.0.0.1:5454"]
}

/** A document with settings given as `{ name: value }`. */
const parse = (members: object, settings: Readonly<Record<string, string>> = {}) =>
  ParsedSpec.parse(
    Result.getOrThrow(
      decodeComputeSpec({
        format_version: 1,
        suspend_timeout_seconds: 0,
        cluster: {
          roles: [],
          databases: [],
          settings: Object.entries(settings).map(([name, value]) => ({ name, value, vartype: "string" }))
        },
        ...members
      })
    )
  )
const parsed = (members: object, settings?: Readonly<Record<string, string>>) =>
  Result.getOrThrow(parse({ ...complete, ...members }, settings))
const refused = (members: object, settings?: Readonly<Record<string, string>>): ParsedSpec.InvalidSpec =>
  Result.getOrThrow(Result.flip(parse({ ...complete, ...members }, settings)))

describe("ParsedSpec", () => {
  it("members win over settings", () => {
    const result = parsed(
      { storage_auth_token: "t", endpoint_storage_addr: "eps:1", endpoint_storage_token: "e" },
      {
        "neon.tenant_id": "0".repeat(32),
        "neon.timeline_id": "0".repeat(32),
        "neon.pageserver_connstring": "host=other",
        "neon.safekeepers": "other:1",
        "neon.endpoint_storage_addr": "other:2",
        "neon.endpoint_storage_token": "other"
      }
    )
    assert.strictEqual<string>(result.tenantId, tenant)
    assert.strictEqual<string>(result.timelineId, timeline)
    assert.deepStrictEqual(result.safekeepers, ["127.0.0.1:5454"])
    assert.strictEqual(result.endpointStorageAddr, "eps:1")
    assert.strictEqual(result.storageAuthToken && Redacted.value(result.storageAuthToken), "t")
    assert.strictEqual(result.endpointStorageToken && Redacted.value(result.endpointStorageToken), "e")
    assert.deepStrictEqual(result.pageserver, {
      shard_count: 0,
      stripe_size: null,
      shards: {
        "0000": { pageservers: [{ id: null, libpq_url: "postgresql://no_user@127.0.0.1:64000", grpc_url: null }] }
      },
      prefer_protocol: "libpq"
    })
  })

  it("a spec that says everything in settings is served", () => {
    const result = Result.getOrThrow(
      parse(
        {},
        {
          "neon.tenant_id": tenant.toUpperCase(),
          "neon.timeline_id": timeline,
          "neon.pageserver_connstring": "host=pageserver-a port=6400, host=pageserver-b port=6400",
          "neon.stripe_size": "+2048",
          "neon.safekeepers": "sk-a:5454, sk-b:5454 ,sk-c:5454",
          "neon.endpoint_storage_addr": "eps:9993",
          "neon.endpoint_storage_token": "e"
        }
      )
    )
    assert.strictEqual<string>(result.tenantId, tenant)
    assert.deepStrictEqual(result.safekeepers, ["sk-a:5454", "sk-b:5454", "sk-c:5454"])
    assert.strictEqual(result.pageserver.stripe_size, 2048)
    assert.deepStrictEqual(Object.keys(result.pageserver.shards), ["0002", "0102"])
    assert.strictEqual(result.pageserver.shards["0102"]?.pageservers[0]?.libpq_url, "host=pageserver-b port=6400")
    assert.strictEqual(result.endpointStorageAddr, "eps:9993")
    assert.isUndefined(result.storageAuthToken)
  })

  it("structured addresses are taken as they are", () => {
    const info = {
      shard_count: 1,
      shards: { "0001": { pageservers: [{ grpc_url: "grpc://a", libpq_url: "" }] } },
      prefer_protocol: "grpc"
    }
    assert.deepStrictEqual<unknown>(parsed({ pageserver_connection_info: info }).pageserver, info)
  })

  it("a generation in front of the safekeepers of the setting is understood", () => {
    const result = parsed({ safekeeper_connstrings: [] }, { "neon.safekeepers": "g#12:sk-a:1,sk-b:2" })
    assert.deepStrictEqual(result.safekeepers, ["sk-a:1", "sk-b:2"])
  })

  it.each(["Replica", { Static: "0/1" }])("mode %j needs no safekeepers", (mode) => {
    assert.deepStrictEqual(parsed({ mode, safekeeper_connstrings: [] }).safekeepers, [])
    assert.deepStrictEqual(parsed({ mode, safekeeper_connstrings: ["a", "a"] }).safekeepers, ["a", "a"])
  })

  const info = (pageservers: ReadonlyArray<object>) => ({ shard_count: 0, shards: { "0000": { pageservers } } })
  it.each<[string, string, object, Readonly<Record<string, string>>]>([
    [
      "pageserver_connection_info",
      "pageserver connection information should be provided",
      { pageserver_connstring: null },
      {}
    ],
    ["pageserver_connstring", "2 shards but no stripe_size", { pageserver_connstring: "a,b" }, {}],
    [
      "pageserver_connstring",
      "2 shards but no stripe_size",
      { pageserver_connstring: "a,b" },
      { "neon.stripe_size": "5" }
    ],
    [
      "pageserver_connstring",
      "out of range integral type conversion attempted",
      {
        pageserver_connstring: Array.from({ length: 256 }, (_, shard) => `ps-${shard}`).join(","),
        shard_stripe_size: 5
      },
      {}
    ],
    ["pageserver_connstring", "pageserver_connstring is empty", { pageserver_connstring: " " }, {}],
    [
      "pageserver_connstring",
      "pageserver_connstring: the address of shard 1 is empty",
      { pageserver_connstring: "a,", shard_stripe_size: 5 },
      {}
    ],
    [
      "neon.pageserver_connstring",
      "neon.pageserver_connstring is empty",
      { pageserver_connstring: null },
      { "neon.pageserver_connstring": "" }
    ],
    [
      "neon.pageserver_connstring",
      "2 shards but no stripe_size",
      { pageserver_connstring: null, shard_stripe_size: 5 },
      { "neon.pageserver_connstring": "a,b" }
    ],
    ...[
      ["", "cannot parse integer from empty string"],
      ["+", "invalid digit found in string"],
      ["-1", "invalid digit found in string"],
      [" 5", "invalid digit found in string"],
      ["4294967296", "number too large to fit in target type"]
    ].map(([stripe = "", message = ""]): [string, string, object, Readonly<Record<string, string>>] => [
      "neon.stripe_size",
      message,
      { pageserver_connstring: null },
      { "neon.pageserver_connstring": "a,b", "neon.stripe_size": stripe }
    ]),
    [
      'pageserver_connection_info.shards["0000"].pageservers[1].libpq_url',
      'pageserver_connection_info.shards["0000"].pageservers[1].libpq_url is empty',
      { pageserver_connection_info: info([{ libpq_url: "a" }, { libpq_url: "" }]) },
      {}
    ],
    ["safekeeper_connstrings", "safekeeper connstrings should be provided", { safekeeper_connstrings: [] }, {}],
    [
      "neon.safekeepers",
      "safekeeper_connstrings is empty",
      { safekeeper_connstrings: [] },
      { "neon.safekeepers": "g#1: " }
    ],
    [
      "neon.safekeepers",
      "neon.safekeepers: entry 2 is empty",
      { safekeeper_connstrings: [] },
      { "neon.safekeepers": "a,,b" }
    ],
    ["safekeeper_connstrings", "safekeeper_connstrings: entry 1 is empty", { safekeeper_connstrings: [""] }, {}],
    [
      "safekeeper_connstrings",
      "duplicate entry in safekeeper_connstrings: b!",
      { safekeeper_connstrings: ["c", "b", "a", "c", "b"] },
      {}
    ],
    ["tenant_id", "tenant id should be provided", { tenant_id: null }, {}],
    ["timeline_id", "timeline id should be provided", { timeline_id: null }, {}]
  ])("%s: %s", (field, message, members, settings) => {
    const error = refused(members, settings)
    assert.deepStrictEqual([error.field, error.message], [field, message])
  })

  it.each([
    ["a", "Odd number of digits"],
    ["", "Invalid string length"],
    ["zz", "Invalid string length"],
    [`abcz${"0".repeat(28)}`, "Invalid character 'z' at position 3"]
  ])("an id of a setting that reads %j is refused with its reason as the cause", (text, reason) => {
    for (const name of ["tenant", "timeline"]) {
      const error = refused({ [`${name}_id`]: null }, { [`neon.${name}_id`]: text })
      assert.strictEqual(error.message, `invalid ${name} id`)
      assert.strictEqual(Describe.describe(error), `invalid ${name} id\n\nCaused by:\n    ${reason}`)
    }
  })

  it("of several defects the first in the order of the checks is told", () => {
    const broken = { pageserver_connstring: null, safekeeper_connstrings: [], tenant_id: null, timeline_id: null }
    const repairs = [
      ["pageserver connection information should be provided", { pageserver_connstring: "a" }],
      ["safekeeper connstrings should be provided", { safekeeper_connstrings: ["a", "a"] }],
      ["tenant id should be provided", { tenant_id: tenant }],
      ["timeline id should be provided", { timeline_id: timeline }],
      ["duplicate entry in safekeeper_connstrings: a!", {}]
    ] as const
    let members = {}
    for (const [message, repair] of repairs) {
      assert.strictEqual(refused({ ...broken, ...members }).message, message)
      members = { ...members, ...repair }
    }
  })
})
