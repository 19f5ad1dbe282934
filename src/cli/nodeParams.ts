/** Options of the node → `ComputeParams`. Source: reference/startup §2–§3, decisions P3, P6, H1. */
import { resolve } from "node:path"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { ComputeParams, SpecSource } from "../domain/ComputeParams.ts"
import * as Failpoint from "../domain/Failpoint.ts"
import { checkCombination, type Given } from "./lex.ts"
import type { NamesOf } from "./OptionSpec.ts"
import { nodeOptions } from "./options.ts"
import { type FileProbe, findPostgres } from "./program.ts"
import * as Server from "./server.ts"
import { UsageError } from "./UsageError.ts"
import { type Environment, maxU16, type Values, values, webUrl, wholeNumber } from "./values.ts"
import { buildTag } from "./version.ts"

type NodeOption = NamesOf<typeof nodeOptions>
type Checked<A> = Result.Result<A, UsageError>

/** Retries of the base backup where the test variable does not say otherwise (reference/startup §12.1). */
const basebackupRetries = 10
const retriesVariable = "NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES"

const sources: ReadonlyArray<NodeOption> = ["config", "control-plane-uri", "spec-path"]
const missingSource = `one of (${sources.map((name) => `--${name}`).join(", ")})`

/** Exactly one slash ends the URL, so that archive paths can be appended. */
const remoteExtBaseUrl = (read: Values<NodeOption>) => (name: NodeOption) =>
  Result.flatMap(read.text(name), (text): Checked<string> => {
    const url = webUrl(`${text.replace(/\/+$/u, "")}/`)
    if (url === undefined) return read.invalid(name, "not an http or https URL")
    if (url.search !== "") return read.invalid(name, "parameters detected in remote extensions base URL")
    url.hash = ""
    return Result.succeed(url.href)
  })

const source = (read: Values<NodeOption>, { NEON_CONTROL_PLANE_TOKEN = "" }: Environment): Checked<SpecSource> => {
  if (read.has("config")) {
    return Result.map(read.word("config"), (path) => ({ _tag: "ConfigFile", path }))
  }
  if (read.has("spec-path")) {
    return Result.map(read.word("spec-path"), (path) => ({ _tag: "SpecFile", path }))
  }
  return Result.flatMap(read.word("control-plane-uri"), (uri): Checked<SpecSource> => {
    if (webUrl(uri) === undefined) return read.invalid("control-plane-uri", "not an http or https URL")
    return Result.succeed({ _tag: "ControlPlane", uri, token: Redacted.make(NEON_CONTROL_PLANE_TOKEN) })
  })
}

/** External and internal port. `--http-port` counts in lakebase mode alone. */
const ports = (read: Values<NodeOption>, lakebase: boolean): Checked<readonly [external: number, internal: number]> =>
  Result.gen(function* () {
    const both = yield* read.optional("http-port", read.u16)
    const external = yield* read.u16("external-http-port")
    const internal = yield* read.u16("internal-http-port")
    if (both === undefined || !lakebase) return [external, internal]
    if (both === maxU16) return yield* read.invalid("http-port", "there is no port after it for the internal server")
    return [both, both + 1]
  })

/** What failpoints do from the start; undefined where there are none. */
const failpoints = (
  enabled: boolean,
  { FAILPOINTS = "" }: Environment
): Checked<ReadonlyArray<Failpoint.Failpoint> | undefined> =>
  enabled
    ? Result.mapError(
        Failpoint.parseVariable(FAILPOINTS),
        ({ message }) => new UsageError({ message: `invalid value of the variable FAILPOINTS: ${message}` })
      )
    : Result.succeed(undefined)

const reconcile = (read: Values<NodeOption>): Checked<ComputeParams["reconcile"]> =>
  Result.flatMap(
    read.text("reconcile"),
    (mode): Checked<ComputeParams["reconcile"]> =>
      mode === "incremental" || mode === "full"
        ? Result.succeed(mode)
        : read.invalid("reconcile", "possible values are incremental and full")
  )

export const nodeParams = (given: Given<NodeOption>, env: Environment, probe: FileProbe): Checked<ComputeParams> =>
  Result.gen(function* () {
    yield* checkCombination(nodeOptions, given, sources.some((name) => given.has(name)) ? undefined : missingSource)
    const read = values(nodeOptions, given, env)
    const { target, text } = yield* Server.connstr(read)
    const lakebaseMode = yield* read.bool("lakebase-mode")
    const [externalHttpPort, internalHttpPort] = yield* ports(read, lakebaseMode)
    const { AUTOSCALING, INSTANCE_ID, [retriesVariable]: retries } = env
    return {
      computeId: yield* read.optional("compute-id", read.word),
      pgdata: resolve(probe.cwd, yield* read.word("pgdata")),
      connstr: text,
      postgres: target,
      pgbin: yield* findPostgres(read, env, probe),
      source: yield* source(read, env),
      externalHttpPort,
      internalHttpPort,
      externalHttpHost: yield* read.optional("external-http-host", read.word),
      internalHttpHost: yield* read.word("internal-http-host"),
      privilegedRoleName: yield* Server.privilegedRoleName(read),
      reconcile: yield* reconcile(read),
      runAs: yield* read.optional("run-as", read.word),
      remoteExtBaseUrl: yield* read.optional("remote-ext-base-url", remoteExtBaseUrl(read)),
      cgroup: yield* read.text("cgroup"),
      filecacheConnstr: yield* read.text("filecache-connstr"),
      vmMonitorAddr: yield* read.text("vm-monitor-addr"),
      resizeSwapOnBind: read.flag("resize-swap-on-bind"),
      setDiskQuotaForFs: yield* read.optional("set-disk-quota-for-fs", read.text),
      installedExtensionsCollectionInterval: yield* read.u64("installed-extensions-collection-interval"),
      dev: read.flag("dev"),
      pgInitTimeout: yield* read.optional("pg-init-timeout", read.u64),
      lakebaseMode,
      instanceId: INSTANCE_ID || undefined,
      buildTag,
      autoscaling: AUTOSCALING !== undefined,
      environment: env,
      basebackupRetries:
        retries === undefined ? basebackupRetries : yield* wholeNumber(retriesVariable, retries, maxU16),
      failpoints: yield* failpoints(read.flag("enable-failpoints"), env)
    }
  })
