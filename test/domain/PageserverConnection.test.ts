import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import {
  firstShardUrl,
  fromConnstring,
  type PageserverConnectionInfo,
  settingValue,
  shardIndex
} from "../../src/domain/PageserverConnection.ts"

type Shards = PageserverConnectionInfo["shards"]
const info = (shard_count: number, shards: Shards): PageserverConnectionInfo => ({
  shard_count,
  shards,
  prefer_protocol: "libpq"
})
const server = { id: 1, libpq_url: "host=a", grpc_url: "grpc://a" }
const message = <A>(result: Result.Result<A, { readonly message: string }>): string =>
  Result.isFailure(result) ? result.failure.message : "none"

describe("PageserverConnection", () => {
  it.each([
    [0, 0, "0000"],
    [0, 1, "0001"],
    [1, 2, "0102"],
    [0, 16, "0010"],
    [254, 255, "feff"]
  ])("shard %i of %i has the index %s", (shard, count, index) => {
    assert.strictEqual(shardIndex(shard, count), index)
  })

  it("the first server of shard 0 serves the base backup", () => {
    const sharded = info(2, {
      "0002": { pageservers: [server, { libpq_url: "host=b" }] },
      "0102": { pageservers: [{ libpq_url: "host=c" }] }
    })
    assert.strictEqual(Result.getOrThrow(firstShardUrl(sharded)), "host=a")
    assert.strictEqual(Result.getOrThrow(firstShardUrl(sharded, "grpc")), "grpc://a")
  })

  it.each<[string, PageserverConnectionInfo, "libpq" | "grpc"]>([
    ["shard connection info missing for shard 0001", info(1, { "0000": { pageservers: [server] } }), "libpq"],
    ["must have at least one pageserver", info(0, { "0000": { pageservers: [] } }), "libpq"],
    ["no libpq_url for shard 0000", info(0, { "0000": { pageservers: [{ libpq_url: null }] } }), "libpq"],
    ["no grpc_url for shard 0000", info(0, { "0000": { pageservers: [{ libpq_url: "host=a" }] } }), "grpc"]
  ])("%s", (expected, broken, protocol) => {
    assert.strictEqual(message(firstShardUrl(broken, protocol)), expected)
  })

  it("the setting lists the shards in their order", () => {
    const urls = Array.from({ length: 20 }, (_, shard) => `host=ps-${shard}`)
    const derived = Result.getOrThrow(fromConnstring("pageserver_connstring", urls.join(","), 2048))
    assert.strictEqual(derived.shard_count, 20)
    assert.strictEqual(Result.getOrThrow(settingValue(derived)), urls.join(","))
  })

  it("there is no setting when a shard has no address for libpq", () => {
    const partial = info(2, { "0002": { pageservers: [server] }, "0102": { pageservers: [{ grpc_url: "grpc://b" }] } })
    assert.isUndefined(Result.getOrThrow(settingValue(partial)))
  })

  it("a shard that is missing from the map is named", () => {
    const hole = info(2, { "0002": { pageservers: [server] } })
    assert.strictEqual(message(settingValue(hole)), "shard 0102 missing from pageserver_connection_info shard map")
    const empty = info(2, { "0002": { pageservers: [server] }, "0102": { pageservers: [] } })
    assert.strictEqual(message(settingValue(empty)), "must have at least one pageserver")
  })
})
