/**
 * What another user can do with a file, told from modes and owners: a process that is root can do everything itself and
 * would notice only when that user's program fails. Access lists and supplementary groups do not count.
 */
import { constants, type Stats } from "node:fs"
import * as fs from "node:fs/promises"
import { dirname } from "node:path"
import type { User } from "../layers/Owner.ts"

type Right = "read" | "execute" | "readAndExecute"
const bits = { read: 4, execute: 1, readAndExecute: 5 } as const
const modes = {
  read: constants.R_OK,
  execute: constants.X_OK,
  readAndExecute: constants.R_OK | constants.X_OK
} as const

const allowed = (stats: Stats, user: User, right: Right): boolean => {
  const shift = stats.uid === user.uid ? 6 : stats.gid === user.gid ? 3 : 0
  return ((stats.mode >> shift) & bits[right]) === bits[right]
}

const ancestors = (path: string): ReadonlyArray<string> => {
  const parent = dirname(path)
  return parent === path ? [path] : [...ancestors(parent), path]
}

/**
 * The first thing on the way that keeps a user from a file or directory, as a path; undefined when nothing does.
 * `user` undefined: this process itself.
 */
export const obstacle = async (path: string, user: User | undefined, right: Right): Promise<string | undefined> => {
  const real = await fs.realpath(path).catch(() => undefined)
  if (real === undefined) return path
  if (user === undefined) {
    return fs.access(real, modes[right]).then(
      () => undefined,
      () => real
    )
  }
  for (const folder of ancestors(dirname(real))) {
    if (!allowed(await fs.stat(folder), user, "execute")) return folder
  }
  return allowed(await fs.stat(real), user, right) ? undefined : real
}
