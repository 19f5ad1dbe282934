/** One owner at a time of a directory: a file `lock` that names the process. */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { describeLine } from "../domain/describe.ts"
import { errorCode } from "../layers/DataDirectory.ts"
import { livingProcess, ownSignature } from "./processes.ts"

/** Another process, or another part of this one, has the directory. */
export class InUse extends Data.TaggedError("InUse")<{
  readonly directory: string
  readonly message: string
}> {}

/** The lock file cannot be written. */
export class LockFailed extends Data.TaggedError("LockFailed")<{
  readonly directory: string
  readonly message: string
  readonly cause?: unknown
}> {}

const readText = (path: string): Promise<string> => fs.readFile(path, "utf8").catch(() => "")

const create = (path: string, text: string): Promise<boolean> =>
  fs.writeFile(path, text, { flag: "wx", mode: 0o644 }).then(
    () => true,
    (cause) => {
      if (errorCode(cause) === "EEXIST") return false
      throw cause
    }
  )

/** Moves a stale lock away. If it was replaced by a fresh one since it was read, that one is put back. */
const moveAway = async (path: string, stale: string): Promise<void> => {
  const aside = `${path}.stale-${process.pid}`
  await fs.rename(path, aside).catch(() => {})
  const moved = await readText(aside)
  if (moved !== "" && moved !== stale) await fs.link(aside, path).catch(() => {})
  await fs.rm(aside, { force: true })
}

/** Takes the lock; returns the pid of who has it otherwise, 0 when several fight for it. */
const take = async (path: string): Promise<number | undefined> => {
  const mine = `${await ownSignature()}\n`
  for (let attempt = 0; attempt < 5; attempt++) {
    if (await create(path, mine)) return undefined
    const found = await readText(path)
    const owner = await livingProcess(found)
    if (owner !== undefined) return owner
    await moveAway(path, found)
  }
  return 0
}

/** Owns a directory until the Scope ends. */
export const hold = (directory: string) => {
  const path = join(directory, "lock")
  return Effect.acquireRelease(
    Effect.tryPromise({
      try: () => take(path),
      catch: (cause) =>
        new LockFailed({ directory, message: `cannot lock ${directory}: ${describeLine(cause)}`, cause })
    }).pipe(
      Effect.flatMap((owner) =>
        owner === undefined
          ? Effect.void
          : Effect.fail(new InUse({ directory, message: `${directory} is in use by process ${owner}` }))
      )
    ),
    () => Effect.promise(() => fs.rm(path, { force: true }))
  )
}
