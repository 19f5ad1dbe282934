/** How this process was started: the command line and the environment, read once. Source: reference/startup §2–§3. */
import type * as Redacted from "effect/Redacted"
import type { PostgresTarget } from "./ConnString.ts"
import type { Mode } from "./catalog/plan.ts"
import type { Failpoint } from "./Failpoint.ts"

/** Where the spec comes from. */
export type SpecSource =
  | { readonly _tag: "ConfigFile"; readonly path: string }
  | { readonly _tag: "SpecFile"; readonly path: string }
  | { readonly _tag: "ControlPlane"; readonly uri: string; readonly token: Redacted.Redacted<string> }

export interface ComputeParams {
  /** What tokens must carry as `compute_id`; undefined with `--spec-path` and no `--compute-id`: taken from the spec. */
  readonly computeId: string | undefined
  readonly pgdata: string
  /** As given, and taken apart. */
  readonly connstr: string
  readonly postgres: PostgresTarget
  /** Absolute path of the postgres binary after the PATH look-up. */
  readonly pgbin: string
  readonly source: SpecSource
  readonly externalHttpPort: number
  readonly internalHttpPort: number
  readonly externalHttpHost: string | undefined
  readonly internalHttpHost: string
  readonly privilegedRoleName: string
  /** `full`: an apply looks into every database, whatever is remembered of it. */
  readonly reconcile: Mode
  /** User that owns Postgres and its files when the process is root. */
  readonly runAs: string | undefined
  readonly remoteExtBaseUrl: string | undefined
  readonly cgroup: string
  readonly filecacheConnstr: string
  readonly vmMonitorAddr: string
  readonly resizeSwapOnBind: boolean
  readonly setDiskQuotaForFs: string | undefined
  /** Seconds. */
  readonly installedExtensionsCollectionInterval: number
  readonly dev: boolean
  /** Seconds; only in lakebase mode. */
  readonly pgInitTimeout: number | undefined
  readonly lakebaseMode: boolean
  readonly instanceId: string | undefined
  readonly buildTag: string
  /** `AUTOSCALING` is present, even if empty: children run in the Postgres cgroup. */
  readonly autoscaling: boolean
  /** What children inherit: the whole environment of this process. */
  readonly environment: Readonly<Record<string, string | undefined>>
  /** `NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES`: retries of the base backup after the first attempt. */
  readonly basebackupRetries: number
  /** `--enable-failpoints`, with what the variable `FAILPOINTS` says; undefined: there are none. */
  readonly failpoints: ReadonlyArray<Failpoint> | undefined
}
