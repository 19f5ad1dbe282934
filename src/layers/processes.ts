/**
 * What the system tells about processes that are not our children.
 *
 * A zombie is dead: it holds nothing, and where PID 1 reaps late it stays visible for a while.
 */
import { readdir, readFile, readlink, realpath } from "node:fs/promises"
import { join } from "node:path"

/** Fields of `/proc/<pid>/stat` behind the name: the state first. Empty where there is no such process, or no /proc. */
const statOf = async (pid: number): Promise<ReadonlyArray<string>> => {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")
  return stat === "" ? [] : stat.slice(stat.lastIndexOf(")") + 2).split(" ")
}

/** Whether a process runs, be it another user's. */
export const isAlive = async (pid: number): Promise<boolean> => {
  try {
    process.kill(pid, 0)
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "EPERM")) return false
  }
  const [state] = await statOf(pid)
  return state !== "Z" && state !== "X"
}

/** When a process started, in clock ticks since boot; empty where the system does not tell. */
export const startOf = async (pid: number): Promise<string> => (await statOf(pid))[19] ?? ""

const workingDirectory = (pid: number): Promise<string | undefined> =>
  readlink(`/proc/${pid}/cwd`).catch(() => undefined)

/** Processes whose working directory is `directory`: Postgres and all its children work in PGDATA. */
export const processesIn = async (directory: string): Promise<ReadonlyArray<number>> => {
  const pids = (await readdir("/proc").catch(() => [])).map(Number).filter(Number.isInteger)
  const found = await Promise.all(pids.map(async (pid) => ((await workingDirectory(pid)) === directory ? pid : 0)))
  return found.filter((pid) => pid > 0 && pid !== process.pid)
}

/**
 * The living postmaster that `postmaster.pid` of a data directory names. The pid may belong to somebody else by now: where
 * the system tells a process' directory, it must be this one.
 */
export const postmasterOf = async (pgdata: string): Promise<number | undefined> => {
  const text = await readFile(join(pgdata, "postmaster.pid"), "utf8").catch(() => "")
  const pid = Number(text.split("\n", 1)[0])
  if (!Number.isInteger(pid) || pid <= 1 || !(await isAlive(pid))) return undefined
  const [works, real] = await Promise.all([workingDirectory(pid), realpath(pgdata).catch(() => pgdata)])
  return works === undefined || works === real ? pid : undefined
}
