/**
 * The image that new timelines start from: `initdb`, once for each version of Postgres, kept in the cache directory.
 *
 * Superuser `cloud_admin`, UTF-8, locale `C.UTF-8`, trust. Source: reference/storage-protocols §8.3 recipe T.
 */
import { execFile } from "node:child_process"
import { createHash, randomUUID } from "node:crypto"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Lsn } from "../domain/Lsn.ts"
import type { User } from "../layers/Owner.ts"
import * as ColdImage from "./ColdImage.ts"
import { openCache, type PostgresInstall } from "./PostgresInstall.ts"
import { controlHash, type Seed } from "./Store.ts"

/** `initdb` failed, or its result cannot be kept. */
export class TemplateFailed extends Data.TaggedError("TemplateFailed")<{
  readonly message: string
  readonly cause?: unknown
}> {}

const Manifest = Schema.fromJsonString(
  Schema.Struct({
    lsn: Lsn,
    system_identifier: Schema.BigIntFromString,
    major: Schema.Natural,
    control: Schema.String
  })
)
const decodeManifest = Schema.decodeUnknownEffect(Manifest)
const encodeManifest = Schema.encodeEffect(Manifest)

const initdbLimit = 120_000

const failed = (doing: string) => (cause: unknown) =>
  new TemplateFailed({ message: `${doing}: ${cause instanceof Error ? cause.message : cause}`, cause })

const initdb = (install: PostgresInstall, target: string, user: User | undefined) =>
  Effect.tryPromise({
    try: async (signal) => {
      await fs.mkdir(target, { mode: 0o700 })
      if (user !== undefined) await fs.chown(target, user.uid, user.gid)
      const provider = install.major >= 17 ? ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] : []
      await promisify(execFile)(
        join(install.bindir, "initdb"),
        [
          `--pgdata=${target}`,
          "--username=cloud_admin",
          "--encoding=UTF8",
          "--locale=C.UTF-8",
          ...provider,
          "--auth=trust",
          "--no-sync",
          "--no-instructions"
        ],
        {
          cwd: "/",
          // A given time zone spares a search through all of them.
          env: { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8", TZ: "UTC" },
          timeout: initdbLimit,
          signal,
          ...(user === undefined ? {} : { uid: user.uid, gid: user.gid })
        }
      )
    },
    catch: failed("initdb failed")
  })

/** Changes whenever a template would turn out differently. */
const identity = ({ bindir, version }: PostgresInstall): string =>
  `template-${version}-${createHash("sha256").update(`1 ${bindir}`).digest("hex").slice(0, 8)}`

const readSeed = Effect.fnUntraced(function* (folder: string) {
  const text = yield* Effect.promise(() => fs.readFile(join(folder, "seed.json"), "utf8").catch(() => undefined))
  if (text === undefined) return undefined
  const manifest = yield* Effect.mapError(decodeManifest(text), failed(`${folder}/seed.json is damaged`))
  const seed: Seed = {
    file: join(folder, "image.tar.gz"),
    lsn: manifest.lsn,
    systemIdentifier: manifest.system_identifier,
    major: manifest.major,
    control: manifest.control
  }
  return seed
})

const create = Effect.fnUntraced(function* (
  install: PostgresInstall,
  user: User | undefined,
  part: string,
  folder: string
) {
  yield* Effect.tryPromise({ try: () => fs.mkdir(part, { mode: 0o755 }), catch: failed(`making ${part} failed`) })
  const pgdata = join(part, "pgdata")
  yield* initdb(install, pgdata, user)
  const source = yield* ColdImage.inspect(pgdata)
  yield* ColdImage.write({ source, target: join(part, "image.tar.gz"), slots: true })
  const manifest = yield* Effect.orDie(
    encodeManifest({
      lsn: source.lsn,
      system_identifier: source.control.systemIdentifier,
      major: source.major,
      control: controlHash(source.controlBytes)
    })
  )
  yield* Effect.tryPromise({
    try: async () => {
      await fs.rm(pgdata, { recursive: true })
      await fs.writeFile(join(part, "seed.json"), manifest)
      // Where somebody else was faster, theirs is as good.
      await fs.rename(part, folder).catch(async (cause) => {
        if ((await fs.stat(folder).catch(() => undefined)) === undefined) throw cause
      })
    },
    catch: failed(`keeping the template in ${folder} failed`)
  })
})

/** The template of an installation; made on first use, in one to two seconds. */
export const open = Effect.fnUntraced(function* (options: {
  readonly install: PostgresInstall
  readonly user: User | undefined
  readonly cacheDir: string
}) {
  const { install, user, cacheDir } = options
  const folder = join(cacheDir, identity(install))
  const found = yield* readSeed(folder)
  if (found !== undefined) return found
  yield* openCache(cacheDir)
  const part = join(cacheDir, `.initdb-${randomUUID().slice(0, 8)}`)
  yield* create(install, user, part, folder).pipe(
    Effect.ensuring(Effect.promise(() => fs.rm(part, { recursive: true, force: true })))
  )
  const made = yield* readSeed(folder)
  return made === undefined ? yield* new TemplateFailed({ message: `the template in ${folder} is gone` }) : made
})
