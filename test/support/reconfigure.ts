/** What tests of a node that runs need to change its configuration. */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import type { Bed, Json, StartOptions } from "./bed.ts"
import type { Compute } from "./compute.ts"

/** Member of the spec that names the pageserver with this number; bed and node have to know it. */
export const onPageserver = (bed: Bed, number: number): Json => ({
  pageserver_connection_info: {
    shard_count: 0,
    stripe_size: null,
    shards: { "0000": { pageservers: [{ id: number + 1, libpq_url: urlOf(bed, number) }] } },
    prefer_protocol: "libpq"
  }
})

export const urlOf = (bed: Bed, number: number): string => bed.storage.pageservers[number]?.url ?? ""

/** `POST /configure` with the document that `start` would use with these options. */
export const configure = (bed: Bed, node: Compute, options: StartOptions = {}) =>
  Effect.flatMap(bed.document({ name: node.name, ...options }), (document) =>
    node.external("POST /configure", { body: options.document?.(document) ?? document })
  )

/** Members of the spec for an apply with these roles and databases. */
export const catalog = (bed: Bed, node: Compute, members: Json, more: Json = {}) =>
  Effect.map(bed.document({ name: node.name }), ({ spec: { cluster } }) => ({
    cluster: { ...Object(cluster), ...members },
    skip_pg_catalog_updates: false,
    ...more
  }))

export const refresh = (node: Compute) => node.internal("POST /refresh_configuration")

/** How often the text stands in the log of the node. */
export const times = (node: Compute, text: string): number => node.stderr().split(text).length - 1

/** Changes with every write of postgresql.conf. */
export const confVersion = (node: Compute) =>
  Effect.promise(async () => {
    const { ctimeMs, ino, mtimeMs } = await fs.stat(join(node.pgdata, "postgresql.conf"))
    return [ino, mtimeMs, ctimeMs].join(" ")
  })
