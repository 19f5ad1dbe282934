/**
 * Shared memory that a killed postmaster leaves behind. Postgres releases it itself when it can; the next start in the
 * same data directory would, too, but ours begins with an empty one.
 *
 * Source: https://www.postgresql.org/docs/17/kernel-resources.html#SYSVIPC, storage of `postmaster.pid` line 7.
 */
import { execFile } from "node:child_process"
import { readFile, rm } from "node:fs/promises"
import { join } from "node:path"
import * as Effect from "effect/Effect"

/** Files in /dev/shm that a postmaster has mapped: the directory of its dynamic segments. */
export const mappedBy = (pid: number): Effect.Effect<ReadonlyArray<string>> =>
  Effect.promise(async () => {
    const maps = await readFile(`/proc/${pid}/maps`, "utf8").catch(() => "")
    return [...new Set(maps.match(/\/dev\/shm\/PostgreSQL\.\d+/gu))]
  })

/** Key and id of the System V segment that marks the data directory as used: the seventh line, two numbers. */
const systemVSegment = async (pgdata: string): Promise<string | undefined> =>
  (await readFile(join(pgdata, "postmaster.pid"), "utf8").catch(() => "")).split("\n")[6]?.trim().split(/\s+/u)[1]

/** Removes what is left, as far as the system lets us. */
export const release = (pgdata: string, mapped: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.promise(async () => {
    await Promise.all(mapped.map((path) => rm(path, { force: true }).catch(() => {})))
    const id = await systemVSegment(pgdata)
    if (id === undefined || !/^\d+$/u.test(id)) return
    await new Promise<void>((done) => {
      execFile("ipcrm", ["--shmem-id", id], { timeout: 2000 }, () => done()) // util-linux; without it the segment stays
    })
  })
