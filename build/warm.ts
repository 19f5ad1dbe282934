/**
 * Fills the compile cache of a bundle by running it: V8 keeps the code of what was really used.
 *
 * One run prints the help, one starts an empty node on a throw-away configuration, which answers requests and ends. Nothing
 * here can fail the build: without the cache the process only starts more slowly.
 */
import { spawn } from "node:child_process"
import { generateKeyPairSync, sign } from "node:crypto"
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as timers from "node:timers/promises"

/** Milliseconds for each of the two runs. */
const patience = 5000

const computeId = "warm-up"

const base64 = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url")

/** Configuration of a node that waits for its first spec and touches nothing, and a token for its external server. */
const configuration = () => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519")
  const key = { ...publicKey.export({ format: "jwk" }), use: "sig", alg: "EdDSA", kid: computeId }
  const signed = `${base64({ alg: "EdDSA", kid: computeId })}.${base64({ compute_id: computeId })}`
  return {
    document: { spec: null, compute_ctl_config: { jwks: { keys: [key] } } },
    token: `${signed}.${sign(null, Buffer.from(signed), privateKey).toString("base64url")}`
  }
}

const run = (entry: string, args: ReadonlyArray<string>, cwd: string) => {
  const child = spawn(process.execPath, [entry, ...args], {
    cwd,
    stdio: ["ignore", "ignore", "pipe"],
    env: { OTEL_SDK_DISABLED: "true" }, // nothing of the builder's may decide what is cached
    timeout: patience,
    killSignal: "SIGKILL"
  })
  let log = ""
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    log += text
  })
  const ended = new Promise<number | null>((resolve) => {
    child.once("error", () => resolve(null))
    child.once("close", resolve)
  })
  return { child, ended, log: () => log }
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer().once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

/** Stands in for the tools of Postgres that an empty start asks for their version. */
const writeTools = (directory: string): string => {
  for (const name of ["postgres", "pg_config"]) {
    writeFileSync(join(directory, name), '#!/bin/sh\necho "PostgreSQL 17.5"\n')
    chmodSync(join(directory, name), 0o755)
  }
  return join(directory, "postgres")
}

/** Status of the answer; asks until there is one, or the node has ended. */
const get = async (url: string, token: string, ended: Promise<unknown>): Promise<number | undefined> => {
  let over = false
  void ended.then(() => {
    over = true
  })
  while (!over) {
    const headers = { authorization: `Bearer ${token}` }
    const answer = await fetch(url, { headers, signal: AbortSignal.timeout(1000) }).catch(() => undefined)
    if (answer !== undefined) {
      await answer.arrayBuffer()
      return answer.status
    }
    await timers.setTimeout(10)
  }
  return undefined
}

const startEmptyNode = async (entry: string, directory: string): Promise<string> => {
  const config = join(directory, "config.json")
  const { document, token } = configuration()
  writeFileSync(config, JSON.stringify(document))
  const [external, internal] = [await freePort(), await freePort()]
  const node = run(
    entry,
    [
      `--pgdata=${join(directory, "pgdata")}`,
      "--connstr=postgresql://cloud_admin@localhost:1/postgres",
      `--compute-id=${computeId}`,
      `--config=${config}`,
      `--pgbin=${writeTools(directory)}`,
      `--external-http-port=${external}`,
      `--internal-http-port=${internal}`
    ],
    directory
  )
  const statuses: Array<number | undefined> = []
  for (const path of ["status", "metrics", "metrics.json"]) {
    statuses.push(await get(`http://127.0.0.1:${external}/${path}`, token, node.ended))
  }
  node.child.kill("SIGTERM")
  const code = await node.ended
  if (code === 0 && statuses.every((status) => status === 200)) return "warmed by an empty start"
  const lastLine = node.log().trim().split("\n").at(-1) ?? ""
  return `not warmed, an empty start answered ${statuses.join(", ")} and ended with ${code}: ${lastLine}`
}

/** Other users may read the cache: Node writes it for its own user alone. */
const makeReadable = (directory: string): void => {
  chmodSync(directory, 0o755)
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) makeReadable(path)
    else chmodSync(path, 0o644)
  }
}

/** Runs the bundle; says in one line what came of it. */
export const warm = async (bundle: string): Promise<string> => {
  const entry = join(bundle, "compute_ctl.mjs")
  const directory = mkdtempSync(join(tmpdir(), "compute_ctl-warm-"))
  try {
    mkdirSync(join(directory, "pgdata"))
    await run(entry, ["--help"], directory).ended
    return await startEmptyNode(entry, directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
    makeReadable(bundle)
  }
}
