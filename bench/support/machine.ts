/** On what the figures were taken. */
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import * as os from "node:os"

const fileSystem = (directory: string): string => {
  try {
    return execFileSync("df", ["--output=fstype", directory], { encoding: "utf8" }).split("\n")[1]?.trim() ?? "unknown"
  } catch {
    return "unknown"
  }
}

const distribution = (): string => {
  try {
    return /^PRETTY_NAME="(.*)"$/mu.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "Linux"
  } catch {
    return "Linux"
  }
}

/** One line. */
export const machine = (directory: string, postgresVersion: string): string => {
  const cpus = os.cpus()
  return [
    `${cpus.length} × ${cpus[0]?.model.trim() ?? "unknown processor"}`,
    `${Math.round(os.totalmem() / 2 ** 30)} GiB`,
    `${distribution()}, Linux ${os.release().split("-", 1)[0]}`,
    `PGDATA on ${fileSystem(directory)}`,
    `Node ${process.version.slice(1)}`,
    `PostgreSQL ${postgresVersion}`,
    `load ${os.loadavg()[0]?.toFixed(2)} at the start`,
    new Date().toISOString().slice(0, 10)
  ].join(", ")
}
