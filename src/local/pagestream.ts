/**
 * Requests of a page stream: enough of them to route them. There are no pages here.
 *
 * Source: reference/storage-protocols §1.8.
 */
import * as Result from "effect/Result"
import type { Selector } from "./Locations.ts"
import { QueryError } from "./QueryError.ts"

export type Version = 2 | 3

export interface PageRequest {
  readonly selector: Selector
  /** What an answer repeats behind its tag. */
  readonly echoed: Buffer
}

const getPage = 2
const known = new Set([0, 1, getPage, 3, 4])
const errorTag = 103

/** Bytes of the request's id, which came with version 3, and of the two positions behind it. */
const echoedBytes = { 2: 0, 3: 24 } as const
const prefixBytes = { 2: 17, 3: 25 } as const

/** Reads a request; everything but a page is asked of the first shard. */
export const parse = (payload: Buffer, version: Version): Result.Result<PageRequest, QueryError> => {
  const tag = payload[0]
  const at = prefixBytes[version]
  // Tablespace, database, relation, fork, block.
  if (tag === undefined || !known.has(tag) || payload.length < at + (tag === getPage ? 17 : 0)) {
    return Result.fail(new QueryError({ kind: "Other", message: `unknown smgr message tag: ${tag ?? "none"}` }))
  }
  return Result.succeed({
    selector:
      tag === getPage
        ? { _tag: "Block", relation: payload.readUInt32BE(at + 8), block: payload.readUInt32BE(at + 13) }
        : { _tag: "Zero" },
    echoed: payload.subarray(1, 1 + echoedBytes[version])
  })
}

/** An answer that says why there is none. */
export const errorAnswer = ({ echoed }: PageRequest, message: string): Buffer =>
  Buffer.concat([Buffer.from([errorTag]), echoed, Buffer.from(`${message}\0`)])
