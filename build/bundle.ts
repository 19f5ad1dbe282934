/**
 * Bundles the program: `main.mjs` holds everything that each start needs, other files what is imported when it is needed.
 *
 * esbuild puts what the program and a late part share into files of their own, so that a start would read eight of them;
 * one file is 5 ms faster. A second pass therefore joins them into `main.mjs`, and leaves in their place files that hand
 * on its exports to the late parts.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { basename, join } from "node:path"
import * as esbuild from "esbuild"
import { buildTag, packageVersion, root } from "./inputs.ts"
import { lazyBuiltins } from "./lazyBuiltins.ts"

/** The oldest major version of Node that runs the bundle; `bin/node.sh` refuses older ones. */
const oldestNode = 24

const main = "main.mjs"

const common = {
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  format: "esm",
  target: `node${oldestNode}`,
  minify: true,
  legalComments: "none",
  sourcemap: "linked",
  sourcesContent: false,
  write: false,
  logLevel: "warning"
} as const satisfies esbuild.BuildOptions

type Output = esbuild.Metafile["outputs"][string]

/** Files by their name, with what is known of them. */
interface Split {
  readonly texts: ReadonlyMap<string, string>
  readonly outputs: ReadonlyMap<string, Output>
}

const split = async (outdir: string): Promise<Split> => {
  const built = await esbuild.build({
    ...common,
    entryPoints: { main: "src/main.ts" },
    outdir,
    outExtension: { ".js": ".mjs" },
    splitting: true,
    metafile: true,
    define: {
      COMPUTE_CTL_VERSION: JSON.stringify(packageVersion()),
      COMPUTE_CTL_BUILD_TAG: JSON.stringify(buildTag)
    },
    plugins: [lazyBuiltins]
  })
  return {
    texts: new Map(built.outputFiles.map((file) => [basename(file.path), file.text])),
    outputs: new Map(Object.entries(built.metafile.outputs).map(([path, output]) => [basename(path), output]))
  }
}

/** The files that are loaded with the program, itself first. */
const neededAtStart = ({ outputs }: Split): ReadonlyArray<string> => {
  const names = new Set([main])
  for (const name of names) {
    for (const { external, kind, path } of outputs.get(name)?.imports ?? []) {
      if (kind === "import-statement" && external !== true) names.add(basename(path))
    }
  }
  return [...names]
}

/** Reads the files of the first pass; what is imported late stays a file of its own. */
const fromFirstPass = ({ texts }: Split): esbuild.Plugin => ({
  name: "first-pass",
  setup(build) {
    build.onResolve({ filter: /^\.\// }, ({ kind, path }) =>
      kind === "dynamic-import" ? { path, external: true } : { path: basename(path), namespace: "first-pass" }
    )
    build.onLoad({ filter: /.*/, namespace: "first-pass" }, ({ path }) => {
      const map = Buffer.from(texts.get(`${path}.map`) ?? "").toString("base64")
      const text = (texts.get(path) ?? "").replace(/\/\/# sourceMappingURL=.*\s*$/u, "")
      return { loader: "js", contents: `${text}\n//# sourceMappingURL=data:application/json;base64,${map}` }
    })
  }
})

const joinStart = async (first: Split, outdir: string): Promise<ReadonlyMap<string, string>> => {
  const [, ...shared] = neededAtStart(first)
  const files = new Map(first.texts)
  const reExports: Array<string> = []
  for (const [index, name] of shared.entries()) {
    const names = (first.outputs.get(name)?.exports ?? []).map((short) => [short, `_${index}_${short}`] as const)
    reExports.push(`export { ${names.map(([short, long]) => `${short} as ${long}`).join(", ")} } from "./${name}"`)
    files.set(name, `export{${names.map(([short, long]) => `${long} as ${short}`).join(",")}}from"./${main}"\n`)
    files.delete(`${name}.map`)
  }
  const built = await esbuild.build({
    ...common,
    stdin: { contents: [`import "./${main}"`, ...reExports].join("\n"), resolveDir: outdir },
    outfile: join(outdir, main),
    plugins: [fromFirstPass(first)]
  })
  for (const file of built.outputFiles) files.set(basename(file.path), file.text)
  return files
}

/** Writes the bundle into a directory of its own; the size of `main.mjs` in bytes. */
export const bundle = async (outdir: string): Promise<number> => {
  const files = await joinStart(await split(outdir), outdir)
  mkdirSync(outdir, { recursive: true })
  for (const [name, text] of files) writeFileSync(join(outdir, name), text)
  return files.get(main)?.length ?? 0
}
