/**
 * Shards of a tenant: how commands name them, and which one a page belongs to.
 *
 * Source: reference/storage-protocols §0.1, §1.8.
 */

/** `count` 0: not sharded. 1 is one shard too, under another name. */
export interface Shard {
  readonly number: number
  readonly count: number
}

export const unsharded: Shard = { number: 0, count: 0 }

export const sameShard = (a: Shard, b: Shard): boolean => a.number === b.number && a.count === b.count

/** Pages of 8 KiB that lie together on one shard, where nothing else was said. */
export const defaultStripeSize = 2048

/** Takes `TENANT` or `TENANT-NNCC` apart; a text that is neither is left whole as the tenant. */
export const parseTenantShard = (text: string): { readonly tenant: string; readonly shard: Shard } => {
  const [, tenant, number, count] = /^([0-9a-f]{32})-([0-9a-f]{2})([0-9a-f]{2})$/iu.exec(text) ?? []
  return tenant === undefined || number === undefined || count === undefined
    ? { tenant: text, shard: unsharded }
    : { tenant, shard: { number: Number.parseInt(number, 16), count: Number.parseInt(count, 16) } }
}

const murmurHash = (value: number): number => {
  const first = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  const second = Math.imul(first ^ (first >>> 13), 0xc2b2ae35)
  return (second ^ (second >>> 16)) >>> 0
}

const combine = (a: number, b: number): number => (a ^ (b + 0x9e3779b9 + (a << 6) + (a >>> 2))) >>> 0

/** The shard of a block of a relation, as Postgres and pageservers compute it. */
export const shardOfBlock = (page: {
  readonly count: number
  readonly stripeSize: number
  /** Number of the relation's file. */
  readonly relation: number
  readonly block: number
}): number =>
  page.count < 2
    ? 0
    : combine(murmurHash(page.relation), murmurHash(Math.floor(page.block / page.stripeSize))) % page.count
