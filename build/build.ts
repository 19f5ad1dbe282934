/**
 * Makes `dist`: one bundle of the program, with what is rare in files of its own, and its compile cache.
 *
 *     dist/compute_ctl.mjs   entry: switches the compile cache on, loads lib/main.mjs
 *     dist/lib/              the program, chunks that are loaded when they are needed, source maps, the cache, and what
 *                            GET /openapi.json and GET /docs answer
 *     dist/modules/          what other programs import, see declarations.ts
 *
 * A bundle is finished beside the old one and then takes its place, so that a broken build leaves the old one alone.
 */
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { basename, join } from "node:path"
import { bundle } from "./bundle.ts"
import { declarations } from "./declarations.ts"
import { dist, hashFile, inputsHash, root } from "./inputs.ts"
import * as OpenApi from "./openapi.ts"
import { warm } from "./warm.ts"

/** Not cached itself, so it does nothing else. `portable`: the cache survives another user and another place. */
const entry = `\
import module from "node:module"
module.enableCompileCache({ directory: import.meta.dirname + "/lib/cache", portable: true })
await import("./lib/main.mjs")
`

/** Puts what was finished in `staging` into `dist`, also where another build does the same at this moment. */
const publish = (staging: string): void => {
  for (const part of ["lib", "modules"]) {
    const place = join(dist, part)
    for (let turn = 0; ; turn++) {
      try {
        if (existsSync(place)) renameSync(place, join(staging, `old-${part}-${turn}`))
        renameSync(join(staging, part), place)
        break
      } catch (cause) {
        if (turn === 3) throw cause
      }
    }
  }
  renameSync(join(staging, "compute_ctl.mjs"), join(dist, "compute_ctl.mjs"))
}

export const build = async (): Promise<void> => {
  const started = performance.now()
  const inputs = inputsHash()
  mkdirSync(dist, { recursive: true })
  chmodSync(dist, 0o755)
  const staging = mkdtempSync(join(dist, ".staging-"))
  try {
    const [bytes] = await Promise.all([bundle(join(staging, "lib")), declarations(join(staging, "modules"))])
    writeFileSync(join(staging, "compute_ctl.mjs"), entry)
    OpenApi.update()
    for (const document of [OpenApi.file, join(root, "src/http/docs/docs.html")]) {
      copyFileSync(document, join(staging, "lib", basename(document)))
    }
    const warmed = await warm(staging)
    rmSync(hashFile, { force: true })
    publish(staging)
    writeFileSync(hashFile, `${inputs}\n`)
    chmodSync(hashFile, 0o644)
    const seconds = ((performance.now() - started) / 1000).toFixed(1)
    process.stdout.write(`dist: ${Math.round(bytes / 1000)} kB, ${warmed}, ${seconds} s\n`)
  } finally {
    rmSync(staging, { recursive: true, force: true })
  }
}

if (import.meta.main) {
  await build().catch((cause: unknown) => {
    process.exitCode = 1
    // What is wrong with the sources esbuild has said itself.
    if (!(cause instanceof Error && "errors" in cause)) throw cause
  })
}
