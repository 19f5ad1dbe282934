/** The real `FileProbe`. */
import { accessSync, constants, statSync } from "node:fs"
import type { FileProbe } from "./program.ts"

export const fileProbe = (cwd: string): FileProbe => ({
  cwd,
  program: (path) => {
    try {
      if (!statSync(path).isFile()) return "not executable"
    } catch {
      return "missing"
    }
    try {
      accessSync(path, constants.X_OK)
      return "executable"
    } catch {
      return "not executable"
    }
  }
})
