/** What a test must not leave behind. Linux: `/proc` is read. */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { isFree } from "./ports.ts"

/** Variable in the environment of everything that a test starts; its value is the directory of the test. */
export const markVariable = "COMPUTE_CTL_TEST"

export interface Leftover {
  readonly pid: number
  readonly command: string
}

const read = (path: string): Promise<string> => fs.readFile(path, "utf8").catch(() => "")

const inside = (directory: string, path: string): boolean => path === directory || path.startsWith(`${directory}/`)

/** Processes that were started from a test, or that work in its directory. Zombies do not count. */
export const processesOf = async (directory: string): Promise<ReadonlyArray<Leftover>> => {
  const pids = (await fs.readdir("/proc")).map(Number).filter((pid) => pid > 0 && pid !== process.pid)
  const found = await Promise.all(
    pids.map(async (pid) => {
      const at = `/proc/${pid}`
      const cwd = await fs.readlink(join(at, "cwd")).catch(() => "")
      const marked = (await read(join(at, "environ"))).split("\0").includes(`${markVariable}=${directory}`)
      if (!marked && !inside(directory, cwd)) return undefined
      const command = (await read(join(at, "cmdline"))).replaceAll("\0", " ").trim()
      return command === "" ? undefined : { pid, command }
    })
  )
  return found.filter((one) => one !== undefined)
}

const filesIn = (path: string): Promise<ReadonlyArray<string>> => fs.readdir(path).catch(() => [])

/** One line for each thing that is left. */
export const leftovers = async (options: {
  readonly directory: string
  readonly ports: ReadonlyArray<number>
  /** Directories that must be empty. */
  readonly empty: ReadonlyArray<string>
  /** Files that must not exist. */
  readonly gone: ReadonlyArray<string>
}): Promise<ReadonlyArray<string>> => {
  const processes = await processesOf(options.directory)
  const listening = await Promise.all(options.ports.map(async (port) => ((await isFree(port)) ? [] : [port])))
  const files = await Promise.all(
    options.empty.map(async (path) => (await filesIn(path)).map((name) => join(path, name)))
  )
  const locks = await Promise.all(
    options.gone.map((path) =>
      fs.lstat(path).then(
        () => [path],
        () => []
      )
    )
  )
  return [
    ...processes.map(({ command, pid }) => `process ${pid}: ${command}`),
    ...listening.flat().map((port) => `somebody listens on port ${port}`),
    ...files.flat().map((path) => `file ${path}`),
    ...locks.flat().map((path) => `lock ${path}`)
  ]
}
