/**
 * Built-in modules of Node are loaded when something of them is first used, not when the bundle is. Many are never used
 * by a start; and an ES module of a built-in reads all of its members at once, late ones too, which loads even more.
 */
import { builtinModules } from "node:module"
import type { Plugin } from "esbuild"

/** Functions that are asked for with `typeof` while modules are evaluated: answered without loading. */
const wrapped: Readonly<Record<string, ReadonlyArray<string>>> = { zlib: ["zstdCompress"] }

const filter = new RegExp(`^(node:)?(${builtinModules.map((name) => name.replaceAll("/", "\\/")).join("|")})$`)

/** A module of getters; where the module itself is a function, or inherits its members, the module. */
const source = (name: string): string => {
  const real = process.getBuiltinModule(`node:${name}`)
  const load = `process.getBuiltinModule("node:${name}")`
  if (typeof real === "function" || name === "process") return `module.exports = ${load}`
  return `
    let loaded
    const load = () => (loaded ??= ${load})
    for (const key of ${JSON.stringify(Object.keys(real ?? {}))})
      Object.defineProperty(exports, key, { configurable: true, enumerable: true, get: () => load()[key] })
    for (const key of ${JSON.stringify(wrapped[name] ?? [])})
      Object.defineProperty(exports, key, { value: (...all) => load()[key](...all) })`
}

export const lazyBuiltins: Plugin = {
  name: "lazy-builtins",
  setup(build) {
    build.onResolve({ filter }, ({ path }) => ({ path: path.replace(/^node:/u, ""), namespace: "lazy-builtin" }))
    build.onLoad({ filter: /.*/, namespace: "lazy-builtin" }, ({ path }) => ({ loader: "js", contents: source(path) }))
  }
}
