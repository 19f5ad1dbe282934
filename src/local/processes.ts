/** Whether processes are alive, and are still the ones that somebody wrote down. */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { errorCode } from "../layers/DataDirectory.ts"

/** Whether a process exists, be it another user's. */
const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (cause) {
    return errorCode(cause) === "EPERM"
  }
}

/** When a process started, in clock ticks since boot; empty where the system does not tell. */
const startOf = async (pid: number): Promise<string> => {
  const stat = await fs.readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? ""
}

/** This process, in one line: pid and start. */
export const ownSignature = async (): Promise<string> => `${process.pid} ${await startOf(process.pid)}`

/** The pid in a signature if that process lives; a pid that was given to somebody else does not count. */
export const livingProcess = async (signature: string): Promise<number | undefined> => {
  const [text = "", started = ""] = signature.trim().split(" ")
  const pid = Number(text)
  if (!Number.isInteger(pid) || pid <= 0 || !isAlive(pid)) return undefined
  const now = await startOf(pid)
  return started === "" || now === "" || started === now ? pid : undefined
}

/**
 * Whether the postmaster that `postmaster.pid` of a data directory names is alive. Postgres works inside its data
 * directory; where the system tells a process' directory, it must be this one.
 */
export const hasPostmaster = async (pgdata: string): Promise<boolean> => {
  const text = await fs.readFile(join(pgdata, "postmaster.pid"), "utf8").catch(() => "")
  const pid = Number(text.split("\n", 1)[0])
  if (!Number.isInteger(pid) || pid <= 0 || !isAlive(pid)) return false
  const [works, real] = await Promise.all([
    fs.readlink(`/proc/${pid}/cwd`).catch(() => undefined),
    fs.realpath(pgdata).catch(() => pgdata)
  ])
  return works === undefined || works === real
}
