/** Which shards of which tenants are attached to one pageserver. */
import * as Deferred from "effect/Deferred"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { TenantId } from "../domain/Identifiers.ts"
import { defaultStripeSize, type Shard, sameShard, shardOfBlock, unsharded } from "./shards.ts"

/** A shard that is attached. */
export interface Location {
  readonly shard: Shard
  readonly stripeSize: number
  /** Ends when the shard is detached. */
  readonly gone: Effect.Effect<void>
}

/** Which shard a command is about: the first, one by its name, or that of a block. */
export type Selector =
  | { readonly _tag: "Zero" }
  | { readonly _tag: "Known"; readonly shard: Shard }
  | { readonly _tag: "Block"; readonly relation: number; readonly block: number }

/** Nothing of the tenant is here, or another shard of it. */
export type Absence = "tenant_not_found" | "wrong_shard"

export interface Tenant {
  readonly tenantId: TenantId
}

/** What to attach; the whole tenant where no shard is named. */
export interface Attachment extends Tenant {
  readonly shard?: Shard
  readonly stripeSize?: number
}

export interface Locations {
  /** Nothing changes where the shard is attached already. */
  readonly attach: (attachment: Attachment) => void
  /** All shards of the tenant. */
  readonly detach: (tenant: Tenant) => void
  readonly find: (tenantId: TenantId, selector: Selector) => Location | Absence
}

interface Entry extends Location {
  readonly detached: Deferred.Deferred<void>
}

const wanted = (selector: Selector) => (location: Location) => {
  const { shard, stripeSize } = location
  switch (selector._tag) {
    case "Zero":
      return shard.number === 0
    case "Known":
      return sameShard(shard, selector.shard)
    case "Block":
      return shard.number === shardOfBlock({ count: shard.count, stripeSize, ...selector })
  }
}

export const make = (): Locations => {
  const tenants = new Map<TenantId, ReadonlyArray<Entry>>()
  return {
    attach: ({ tenantId, shard = unsharded, stripeSize = defaultStripeSize }) => {
      const known = tenants.get(tenantId) ?? []
      if (known.some((entry) => sameShard(entry.shard, shard))) return
      const detached = Deferred.makeUnsafe<void>()
      tenants.set(tenantId, [...known, { shard, stripeSize, gone: Deferred.await(detached), detached }])
    },
    detach: ({ tenantId }) => {
      const known = tenants.get(tenantId) ?? []
      tenants.delete(tenantId)
      for (const { detached } of known) Deferred.doneUnsafe(detached, Exit.void)
    },
    find: (tenantId, selector) => {
      const known = tenants.get(tenantId)
      return known === undefined ? "tenant_not_found" : (known.find(wanted(selector)) ?? "wrong_shard")
    }
  }
}
