/** The two servers on free ports, over the real layers, and a client that speaks HTTP without being clever. */
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto"
import * as Net from "node:net"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { Jwk } from "../../src/domain/ComputeConfig.ts"
import type { ComputeParams } from "../../src/domain/ComputeParams.ts"
import { ComputeSpec } from "../../src/domain/ComputeSpec.ts"
import * as ComputeState from "../../src/domain/ComputeState.ts"
import type { ComputeEvent } from "../../src/domain/ComputeStatus.ts"
import * as ParsedSpec from "../../src/domain/ParsedSpec.ts"
import { HttpServers } from "../../src/http/serve.ts"
import { ComputeNode } from "../../src/layers/ComputeNode.ts"
import * as Failpoints from "../../src/layers/Failpoints.ts"
import * as Loops from "../../src/layers/Loops.ts"
import { Metrics } from "../../src/layers/Metrics.ts"
import * as Owner from "../../src/layers/Owner.ts"
import { Params } from "../../src/layers/Params.ts"
import { Sql } from "../../src/layers/Sql.ts"
import { ours } from "../support/exchanges.ts"
import { type PlainCall, type Reply, sendPlain } from "../support/http.ts"

export const computeId = "ep-test"
export const startTime = Date.parse("2026-11-21T08:49:07.987Z")

const params: ComputeParams = {
  computeId,
  pgdata: "/nonexistent",
  connstr: "postgresql://cloud_admin@localhost:5432/postgres",
  postgres: {
    host: "localhost",
    port: 5432,
    user: "cloud_admin",
    database: "postgres",
    password: undefined,
    options: undefined
  },
  pgbin: "/nonexistent/postgres",
  source: { _tag: "ConfigFile", path: "/nonexistent/config.json" },
  externalHttpPort: 0,
  internalHttpPort: 0,
  externalHttpHost: undefined,
  internalHttpHost: "localhost",
  privilegedRoleName: "neon_superuser",
  reconcile: "incremental",
  runAs: undefined,
  remoteExtBaseUrl: undefined,
  cgroup: "neon-postgres",
  filecacheConnstr: "",
  vmMonitorAddr: "0.0.0.0:10301",
  resizeSwapOnBind: false,
  setDiskQuotaForFs: undefined,
  installedExtensionsCollectionInterval: 3600,
  dev: false,
  pgInitTimeout: undefined,
  lakebaseMode: false,
  instanceId: undefined,
  buildTag: "latest",
  autoscaling: false,
  environment: {},
  basebackupRetries: 10,
  failpoints: undefined
}

// --- tokens --------------------------------------------------------------------------------------------------------

const base64url = (text: string): string => Buffer.from(text).toString("base64url")

export const newKey = (): KeyObject => generateKeyPairSync("ed25519").privateKey

type OctetKey = Extract<Jwk, { readonly kty: "OKP" }>

export const jwkOf = (key: KeyObject, more: Partial<OctetKey> = {}): OctetKey => {
  const { x = "" } = key.export({ format: "jwk" })
  return { kty: "OKP", crv: "Ed25519", x, alg: "EdDSA", use: "sig", key_ops: ["verify"], kid: "k1", ...more }
}

/** A token over these claims; `text` as the payload is taken as it is. */
export const token = (
  key: KeyObject,
  claims: unknown,
  header: { readonly alg: string; readonly [name: string]: unknown } = { alg: "EdDSA" }
): string => {
  const text = typeof claims === "string" ? claims : JSON.stringify(claims)
  const signed = `${base64url(JSON.stringify(header))}.${base64url(text)}`
  return `${signed}.${sign(header.alg === "RS256" ? "sha256" : null, Buffer.from(signed), key).toString("base64url")}`
}

/** The key that a node of these tests trusts, unless told otherwise. */
export const ownKey = newKey()
export const ownToken = token(ownKey, { compute_id: computeId, scope: null, aud: null })

// --- requests ------------------------------------------------------------------------------------------------------

export type Call = PlainCall

/** `what`: method and path, `GET /status`. */
export const request = (port: number, what: string, call: Call = {}): Promise<Reply> => sendPlain(port, what, call)

/** Sends bytes as they are; everything that came until the server closed. */
export const raw = (port: number, bytes: string | Buffer, end = false): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = Net.connect(port, "127.0.0.1")
    let received = ""
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1")
    })
    socket.on("close", () => resolve(received))
    socket.on("error", (error) => (received === "" ? reject(error) : resolve(received)))
    if (end) socket.end(bytes)
    else socket.write(bytes)
  })

// --- a node --------------------------------------------------------------------------------------------------------

export interface NodeOptions {
  readonly params?: Partial<ComputeParams>
  readonly keys?: ReadonlyArray<Jwk>
  /** The spec that is live. */
  readonly live?: ParsedSpec.ParsedSpec
  /** What happened to the node before the test. */
  readonly events?: ReadonlyArray<ComputeEvent>
  readonly log?: (line: string) => void
  /** What the loops of the process do; there are none otherwise. */
  readonly loops?: ReturnType<typeof Loops.make>
  /** What else holds for everything that runs in the node. */
  readonly references?: Layer.Layer<never>
}

/** Path of events to a status. */
export const eventsTo = {
  empty: [],
  configuration_pending: ["spec_accepted"],
  init: ["startup_begins"],
  running: ["startup_begins", "startup_succeeded"],
  configuration: ["startup_begins", "startup_succeeded", "spec_accepted", "configuration_begins"],
  failed: ["startup_begins", "startup_failed"],
  termination_pending_fast: ["terminate_fast"],
  termination_pending_immediate: ["terminate_immediate"],
  terminated: ["terminate_fast", "stopped"],
  refresh_configuration_pending: ["startup_begins", "startup_succeeded", "refresh_requested"],
  refresh_configuration: ["startup_begins", "startup_succeeded", "refresh_requested", "refresh_begins"]
} as const satisfies Record<string, ReadonlyArray<ComputeEvent>>

const layerOf = (options: NodeOptions) => {
  const capture = Logger.layer([
    Logger.make<unknown, void>(({ logLevel, message }) => options.log?.(`${logLevel} ${[message].flat().join(" ")}`))
  ])
  const { failpoints } = options.params ?? {}
  return HttpServers.layer.pipe(
    Layer.provide([
      Sql.layer,
      Owner.Owner.layer(undefined),
      Layer.succeed(Loops.Loops, options.loops ?? Loops.make()),
      failpoints === undefined ? Layer.empty : Failpoints.layer(failpoints, Effect.void)
    ]),
    Layer.provideMerge([
      ComputeNode.layer({
        ...ComputeState.initial(startTime, { keys: options.keys ?? [jwkOf(ownKey)] }),
        spec: options.live
      }),
      Metrics.layer("latest"),
      Layer.succeed(Params, { ...params, ...options.params })
    ]),
    Layer.provideMerge([capture, options.references ?? Layer.empty])
  )
}

const portOf = (addresses: ReadonlyArray<{ readonly port: number }>): number => addresses[0]?.port ?? 0

/** Starts a node's servers; the caller closes it, or uses `using`. */
export const start = async (options: NodeOptions = {}) => {
  const scope = await Effect.runPromise(Scope.make())
  const context = await Effect.runPromise(Layer.buildWithScope(layerOf(options), scope))
  const run = <A, E>(effect: Effect.Effect<A, E, ComputeNode | Metrics | HttpServers>): Promise<A> =>
    Effect.runPromise(Effect.provideContext(effect, context))
  const servers = await run(HttpServers)
  const node = await run(ComputeNode)
  const fire = async (...events: ReadonlyArray<ComputeEvent>) => {
    for (const event of events) await run(node.transition(event))
  }
  await fire(...(options.events ?? []))
  const external = portOf(servers.external)
  const internal = portOf(servers.internal)
  const strangers = [ours(external, "external"), ours(internal, "internal")]
  let closing: Promise<void> | undefined
  const close = (): Promise<void> =>
    (closing ??= Effect.runPromise(Scope.close(scope, Exit.void)).finally(() => {
      for (const stranger of strangers) stranger()
    }))
  const authorized = (call: Call): Call => ({
    ...call,
    headers: { authorization: `Bearer ${ownToken}`, ...call.headers }
  })
  return {
    servers,
    node,
    run,
    fire,
    externalPort: external,
    internalPort: internal,
    close,
    /** With a good token. */
    external: (what: string, call: Call = {}) => request(external, what, authorized(call)),
    internal: (what: string, call: Call = {}) => request(internal, what, call),
    [Symbol.asyncDispose]: close
  }
}

/** A document that `/configure` accepts. */
export const tenant = "1f359dd625e519a1a4e8d7509690f6fc"
export const timeline = "0f359dd625e519a1a4e8d7509690f6fc"
export const spec = {
  format_version: 1.0,
  suspend_timeout_seconds: -1,
  cluster: { roles: [], databases: [], settings: null, postgresql_conf: "port=5432\n" },
  tenant_id: tenant,
  timeline_id: timeline,
  endpoint_id: computeId,
  pageserver_connstring: "postgresql://no_user@127.0.0.1:6400",
  safekeeper_connstrings: ["127.0.0.1:5454"],
  mode: "Primary",
  skip_pg_catalog_updates: true
}
export const configuration = { spec, compute_ctl_config: { jwks: { keys: [] }, tls: null } }

/** That spec as the program gets it, with some members changed. */
export const parsedSpec = (changes: Readonly<Record<string, unknown>> = {}): ParsedSpec.ParsedSpec =>
  Result.getOrThrow(ParsedSpec.parse(Schema.decodeUnknownSync(ComputeSpec)({ ...spec, ...changes })))

export const jsonBody = (body: unknown): Call => ({
  body: typeof body === "string" ? body : JSON.stringify(body),
  headers: { "content-type": "application/json" }
})
