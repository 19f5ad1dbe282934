/** A node's life by the commands and by the client: started empty, configured, looked at, refreshed, ended. */
import { execFile } from "node:child_process"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { root } from "../../build/inputs.ts"
import { ComputeClient, PreconditionFailed, StatusUnattainable, Unreachable } from "../../src/http/Client.ts"
import { makeBed } from "../support/bed.ts"
import type { Compute } from "../support/compute.ts"
import { catalog } from "../support/reconfigure.ts"

const urls = (node: Compute) => ({
  url: `http://127.0.0.1:${node.externalPort}`,
  internalUrl: `http://127.0.0.1:${node.internalPort}`
})

/** Runs a command on the node; what it printed, once it has ended with 0. */
const command = (node: Compute, ...args: ReadonlyArray<string>) =>
  Effect.callback<string>((resume) => {
    const { internalUrl, url } = urls(node)
    const env = { PATH: "/usr/bin:/bin", COMPUTE_CTL_TOKEN: Redacted.value(node.token) }
    const all = [...args, "--url", url, "--internal-url", internalUrl]
    const child = execFile(join(root, "bin/compute_ctl"), all, { cwd: "/", env }, (error, stdout, stderr) =>
      resume(error === null ? Effect.succeed(stdout) : Effect.die(new Error(`${args.join(" ")}: ${stderr}`)))
    )
    return Effect.sync(() => child.kill())
  })

const clientOf = (node: Compute) => ComputeClient.connect({ ...urls(node), token: node.token })

/** What the promise is rejected with. */
const rejection = (promise: Promise<unknown>) =>
  Effect.promise(() =>
    promise.then(
      (value) => Promise.reject(new Error(`it was resolved: ${JSON.stringify(value)}`)),
      (error: unknown) => error
    )
  )

it.live("an operator brings a node up and down by commands", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.start({ source: "configFile", document: (made) => ({ ...made, spec: null }) })
    yield* node.waitFor("empty")
    const document = yield* bed.document({ name: node.name })
    const spec = join(bed.directory, "spec.json")
    yield* Effect.promise(() => fs.writeFile(spec, JSON.stringify(document.spec)))
    expect(yield* command(node, "configure", spec)).toMatch(/^applied in [^\n]+\nrunning\n {2}started /u)

    const timeline = yield* command(node, "timeline")
    for (const stage of ["start_compute", "  prepare_pgdata", "    get_basebackup", "  configure_as_primary"]) {
      expect(timeline).toMatch(new RegExp(`^${stage} +\\d.*█+$`, "mu"))
    }
    expect(timeline).not.toMatch(/running|failed/u)

    const roles = yield* catalog(bed, node, { roles: [{ name: "alice" }] })
    const whole = join(bed.directory, "whole.json")
    const { compute_ctl_config } = document
    yield* Effect.promise(() =>
      fs.writeFile(whole, JSON.stringify({ spec: { ...document.spec, ...roles }, compute_ctl_config }))
    )
    yield* command(node, "configure", whole)
    expect(yield* command(node, "reconcile")).toMatch(/^done, [\s\S]*\n {2}create_role +1\n/u)
    expect(yield* command(node, "metrics")).toMatch(/^compute_ctl_up\{build_tag="latest",status="running"\} +1$/mu)
    expect(yield* command(node, "refresh")).toContain("asked")
    expect(yield* command(node, "terminate", "--mode", "immediate")).toMatch(
      /^Postgres is down, safekeepers are synced up to [0-9A-F]+\/[0-9A-F]+\n$/u
    )
    expect((yield* node.exit).code).toBe(0)
  })
)

it.live("the client follows a node through its life", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.start({ spec: { skip_pg_catalog_updates: false } })
    const client = clientOf(node)
    const running = yield* Effect.promise(() => client.waitFor("running", { timeout: "30 seconds" }))
    expect(running).toEqual((yield* node.external("GET /status")).json)
    expect(yield* Effect.promise(() => client.checkWritability())).toBe(true)
    const { databases } = yield* Effect.promise(() => client.catalogObjects())
    expect(databases.map(({ name }) => name)).toContain("postgres")
    const { spec } = yield* bed.document({ name: node.name })
    const elsewhere: Parameters<typeof client.configure>[0] = Object({ ...spec, timeline_id: "0".repeat(32) })
    expect(yield* rejection(client.configure(elsewhere))).toMatchObject({ _tag: "BadRequest" })

    const ended = yield* Effect.promise(() => client.terminate({ mode: "immediate" }))
    expect(ended.lsn).toMatch(/^[0-9A-F]+\/[0-9A-F]+$/u)
    yield* node.exit
    const gone = yield* rejection(clientOf(node).status())
    expect(gone).toBeInstanceOf(Unreachable)
  })
)

it.live("waiting for a node that fails ends with the reason of the node", () =>
  Effect.gen(function* () {
    const bed = yield* makeBed()
    const node = yield* bed.start({
      spec: {
        safekeeper_connstrings: ["127.0.0.1:1"],
        pageserver_connstring: "postgresql://no_user@127.0.0.1:1",
        pageserver_connection_info: undefined
      },
      env: { NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES: "0" }
    })
    const client = clientOf(node)
    const error = yield* rejection(client.waitFor("running", { timeout: "40 seconds" }))
    expect(error).toBeInstanceOf(StatusUnattainable)
    expect(error).toMatchObject({
      seen: { status: "failed", error: expect.any(String) },
      message: expect.stringMatching(/^it will not become running: the node is failed: ./u)
    })
    expect(yield* rejection(client.checkWritability())).toBeInstanceOf(PreconditionFailed)
    yield* node.terminate("immediate")
    yield* node.exit
  })
)
