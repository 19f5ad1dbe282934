/** What the bundle is made of, as one hash: an unchanged hash means that `dist` is up to date. */
import { createHash } from "node:crypto"
import { readdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"

export const root = resolve(import.meta.dirname, "..")
export const dist = join(root, "dist")

/** File in `dist` that holds the hash of its inputs. */
export const hashFile = join(dist, ".inputs")

const { BUILD_TAG } = process.env

/** Names the release in logs, metrics and paths of extension archives. */
export const buildTag = BUILD_TAG || "latest"

export const packageVersion = (): string => {
  const parsed: { readonly version?: unknown } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
  return String(parsed.version ?? "0.0.0")
}

const files = (): ReadonlyArray<string> => [
  "package.json",
  "package-lock.json",
  ...["src", "build"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
  )
]

/** The compile cache is bound to the version and the processor of Node, so they count as inputs. */
export const inputsHash = (): string => {
  const hash = createHash("sha256").update(`${process.version} ${process.arch} ${buildTag}\n`)
  for (const file of [...files()].sort()) {
    hash.update(`${file}\0`).update(
      createHash("sha256")
        .update(readFileSync(join(root, file)))
        .digest()
    )
  }
  return hash.digest("hex")
}

/** The inputs of the bundle that is there; undefined without one. */
export const builtHash = (): string | undefined => {
  try {
    return readFileSync(hashFile, "utf8").trim()
  } catch {
    return undefined
  }
}
