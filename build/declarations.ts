/**
 * Makes the modules that other programs import from the package: JavaScript with declarations, not bundled, so that they
 * share their Effect with the program that imports them.
 *
 *     dist/modules/http/Client.js, .d.ts    compute-ctl/client
 *     dist/modules/domain/                  compute-ctl/domain/*
 */
import { spawn } from "node:child_process"
import { join } from "node:path"
import { root } from "./inputs.ts"

/** Runs the compiler; rejects with what it says where it finds errors. */
export const declarations = (outDir: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const compiler = join(root, "node_modules/typescript/bin/tsc")
    const child = spawn(process.execPath, [compiler, "-p", join(root, "build"), "--outDir", outDir], {
      stdio: ["ignore", "pipe", "inherit"]
    })
    let said = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      said += text
    })
    child.once("error", reject)
    child.once("close", (code) =>
      code === 0 ? resolve() : reject(new Error(`the modules of the package cannot be compiled:\n${said}`))
    )
  })
