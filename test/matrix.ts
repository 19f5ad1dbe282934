/**
 * The tests of the catalogs, on one version of PostgreSQL after the other.
 *
 * Arguments: the versions; default: all. Binaries that are missing come from npm. Fails if one of the versions does.
 */
import { execFileSync, spawn } from "node:child_process"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import { majors, type PostgresMajor } from "../src/domain/PostgresVersion.ts"
import * as Owner from "../src/layers/Owner.ts"
import * as PostgresInstall from "../src/local/PostgresInstall.ts"
import { cacheDir } from "./support/postgres.ts"

const root = join(import.meta.dirname, "..")
const tests = ["test/programs/catalog", "test/e2e/catalog.test.ts"]

/** How many times more often than in `npm test` a property is tried. */
const factor = process.env["COMPUTE_CTL_TEST_RUNS"] ?? "5"

const asked = process.argv.slice(2)
const wanted = asked.length === 0 ? majors : majors.filter((major) => asked.includes(String(major)))
if (wanted.length < asked.length) throw new Error(`the versions are ${majors.join(", ")}`)

const isMissing = (major: PostgresMajor) =>
  Effect.gen(function* () {
    yield* PostgresInstall.find({ major, user: yield* Owner.resolve(undefined), cacheDir })
    return false
  }).pipe(Effect.catchTag("PostgresMissing", () => Effect.succeed(true)))

/** All of them at once, as npm removes what it is not told of. */
const install = Effect.gen(function* () {
  const missing = yield* Effect.filter(wanted, isMissing)
  if (missing.length === 0) return
  execFileSync("npm", PostgresInstall.installArguments(majors), { cwd: root, stdio: "inherit" })
})

const closing = /^PG \d+: \d+ passed, (\d+) failed$/u

/** The closing line of a run. */
const test = (major: PostgresMajor) =>
  Effect.callback<string>((resume) => {
    const child = spawn(process.execPath, [join(root, "node_modules/vitest/vitest.mjs"), "run", ...tests], {
      cwd: root,
      env: { ...process.env, COMPUTE_CTL_TEST_PG: String(major), COMPUTE_CTL_TEST_RUNS: factor },
      stdio: ["ignore", "pipe", "inherit"]
    })
    let output = ""
    child.stdout.setEncoding("utf8").on("data", (text) => {
      output += text
      process.stdout.write(text)
    })
    child.once("close", (code) => {
      const line = output.split("\n").findLast((text) => closing.test(text)) ?? ""
      const failed = Number(closing.exec(line)?.[1] ?? 0)
      const isHonest = line !== "" && (code === 0) === (failed === 0)
      resume(Effect.succeed(isHonest ? line : `PG ${major}: 0 passed, 1 failed (exit code ${code})`))
    })
  })

const lines = await Effect.runPromise(Effect.andThen(install, Effect.forEach(wanted, test)))
process.stdout.write(`\n${lines.join("\n")}\n`)
process.exitCode = lines.every((line) => line.endsWith(" 0 failed")) ? 0 : 1
