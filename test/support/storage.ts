/** What the emulated storage of a bed has seen, and what it is told to do wrong. */
import * as Effect from "effect/Effect"
import * as Lsn from "../../src/domain/Lsn.ts"
import { newest } from "../../src/local/Store.ts"
import type { Bed } from "./bed.ts"

/** Where the timeline of the bed ends. */
export const position = (bed: Bed) =>
  bed.storage.store.timeline(bed.storage).pipe(
    Effect.map((timeline) => newest(timeline).lsn),
    Effect.orDie
  )

/** All safekeepers say that they have got to this position. */
export const agreeOn = (bed: Bed, lsn: bigint): void => {
  for (const safekeeper of bed.storage.safekeepers) safekeeper.setStatus(at(lsn))
}

/** No safekeeper knows the timeline: a start has to sync. */
export const knowNothing = (bed: Bed): void => {
  for (const safekeeper of bed.storage.safekeepers) safekeeper.setStatus({ _tag: "Unknown" })
}

export const at = (lsn: bigint) => ({ _tag: "Fixed", flush: Lsn.fromBigInt(lsn), commit: Lsn.fromBigInt(lsn) }) as const

/** Runs of `postgres --sync-safekeepers`. */
export const syncs = (bed: Bed) => bed.storage.stub.runs.all().filter(({ kind }) => kind === "sync")

/** Those since Postgres was started last. */
export const syncsAtEnd = (bed: Bed) => {
  const runs = bed.storage.stub.runs.all()
  return runs.slice(runs.findLastIndex(({ kind }) => kind === "start") + 1)
}

/** The storage takes over only what was stopped cleanly; for the sync after a crash a position is made up. */
export const printPosition = (bed: Bed) => bed.storage.stub.faults.add({ at: "sync", do: "print", text: "0/5000000" })

/** Commands that the pageserver got. */
export const commands = (bed: Bed) => bed.storage.pageserver.commands.all()

/** For the environment of a node: how often a failed base backup is tried again. */
export const retries = (count: number) => ({ NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES: String(count) })

/** The next base backup fails. */
export const failBasebackup = (bed: Bed, message = "boom") =>
  bed.storage.pageserver.faults.add({ at: "command", do: "error", message })
