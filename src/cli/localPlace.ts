/** Where local mode keeps its databases when nobody says where. */
import { homedir } from "node:os"
import { join } from "node:path"
import type { LocalParams } from "../domain/LocalParams.ts"

/** The data directory. Root's home cannot be entered by the user that runs Postgres. */
export const dataDirOf = ({ dataDir, environment }: Pick<LocalParams, "dataDir" | "environment">): string =>
  dataDir ??
  (process.getuid?.() === 0
    ? "/var/lib/compute-ctl/local"
    : join(environment["XDG_DATA_HOME"] || join(homedir(), ".local", "share"), "compute-ctl", "local"))
