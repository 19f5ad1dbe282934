import { assert, describe, it } from "@effect/vitest"
import { parseTenantShard, shardOfBlock, unsharded } from "../../src/local/shards.ts"

const tenant = "9e4c8f36063c6c6e93bc20d65a820f3d"

describe("shards", () => {
  it("a tenant shard is named by tenant, number and count", () => {
    assert.deepStrictEqual(parseTenantShard(tenant), { tenant, shard: unsharded })
    assert.deepStrictEqual(parseTenantShard(`${tenant}-0a10`), { tenant, shard: { number: 10, count: 16 } })
    for (const text of [`${tenant}-`, `${tenant}-0`, `${tenant}-00010`, `${tenant}-00gg`, "x-0001", ""]) {
      assert.deepStrictEqual(parseTenantShard(text), { tenant: text, shard: unsharded })
    }
  })

  it("a block is on the shard that the original computes", () => {
    // The example of the original's own test of this mapping.
    const example = { count: 10, stripeSize: 32768, relation: 0x400c, block: 0x7d06 }
    assert.strictEqual(shardOfBlock(example), 8)
  })

  it("the blocks of a stripe are together, and a table spreads over all shards", () => {
    const shardOf = (block: number) => shardOfBlock({ count: 4, stripeSize: 16, relation: 16384, block })
    const stripes = Array.from({ length: 200 }, (_, stripe) => shardOf(stripe * 16))
    for (const [stripe, shard] of stripes.entries()) {
      assert.strictEqual(shardOf(stripe * 16 + 15), shard)
      assert.isTrue(Number.isInteger(shard) && shard >= 0 && shard < 4)
    }
    assert.strictEqual(new Set(stripes).size, 4)
    for (const count of [0, 1]) {
      assert.strictEqual(shardOfBlock({ count, stripeSize: 16, relation: 16384, block: 99 }), 0)
    }
  })
})
