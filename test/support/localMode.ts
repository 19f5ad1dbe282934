/** `compute_ctl local` as a child process in a directory of its own, and `compute_ctl local move` beside it. */
import { execFile } from "node:child_process"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Compute from "./compute.ts"
import { leftovers, markVariable } from "./leftovers.ts"
import { freePort } from "./ports.ts"

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** A pageserver as the banner shows it. */
export interface Shown {
  readonly id: number
  readonly address: string
  readonly serves: boolean
  readonly metricsUrl: string
}

const token = (path: string): Promise<string> => fs.readFile(path, "utf8").catch(() => "")

/** Binaries and templates: one place for all tests of a user; for root that of the machine. */
const home = join(tmpdir(), `compute-ctl-tests-${process.getuid?.() ?? 0}`)

export const pageservers = (output: string): ReadonlyArray<Shown> =>
  [...output.matchAll(/^ +(?:Pageserver)? +(\d+): (\S+) +(has the timeline)? +(http\S+)$/gmu)].map(
    ([, id, address = "", serves, metricsUrl = ""]) => ({
      id: Number(id),
      address,
      serves: serves !== undefined,
      metricsUrl
    })
  )

/** A place for local mode; when its Scope ends, nothing may be left. */
export const make = Effect.gen(function* () {
  const ports = yield* Effect.promise(async () => [await freePort(), await freePort(), await freePort()] as const)
  const [port, externalPort, internalPort] = ports
  const directory = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      await fs.mkdir(home, { recursive: true, mode: 0o755 })
      const path = await fs.mkdtemp(join(tmpdir(), "compute-ctl-"))
      await fs.chmod(path, 0o755)
      return path
    }),
    (path) =>
      Effect.promise(async () => {
        const gone = ["control.json", "timelines/lock", "run"].map((name) => join(path, "data", name))
        const left = await leftovers({ directory: path, ports, empty: [], gone })
        await fs.rm(path, { recursive: true, force: true, maxRetries: 5 })
        if (left.length > 0) throw new Error(`left behind:\n${left.join("\n")}`)
      })
  )
  const dataDir = join(directory, "data")
  const env = { PATH: "/usr/bin:/bin", HOME: home, [markVariable]: directory, OTEL_SDK_DISABLED: "true" }

  const start = (...options: ReadonlyArray<string>) =>
    Compute.start({
      name: "local",
      pgdata: join(dataDir, "pgdata"),
      ...{ port, externalPort, internalPort, env },
      args: [
        ...["local", "--data-dir", dataDir, "--port", String(port)],
        ...["--http-port", String(externalPort), "--internal-http-port", String(internalPort), ...options]
      ],
      closedInput: false,
      token: Redacted.make("")
    })

  return {
    directory,
    dataDir,
    ports: { port, externalPort, internalPort },
    start,
    /** `start`, and wait until the terminal shows how to stop. */
    run: (...options: ReadonlyArray<string>) =>
      Effect.tap(start(...options), (node) => {
        const story = () => `${node.stdout()}${node.stderr()}`
        return Effect.raceFirst(
          Compute.eventually(
            () => `the banner is there\n${story()}`,
            () => node.stdout().includes("\n  Stop "),
            "45 seconds"
          ),
          Effect.andThen(node.exit, Effect.die(new Error(`local mode has ended:\n${story()}`)))
        )
      }),
    /** Content of `storage.token`. */
    storageToken: Effect.map(
      Effect.promise(() => token(join(dataDir, "storage.token"))),
      Redacted.make
    ),
    /** `compute_ctl local move`, to its end. */
    move: (...options: ReadonlyArray<string>): Effect.Effect<Ran> =>
      Effect.promise(
        () =>
          new Promise((resolve) => {
            const child = execFile(
              Compute.program,
              ["local", "move", "--data-dir", dataDir, ...options],
              { env, timeout: 60_000 },
              (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr })
            )
          })
      )
  }
})
