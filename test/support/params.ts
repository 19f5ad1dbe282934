/** Parameters of a node that is made of its parts, without a command line. */
import * as Redacted from "effect/Redacted"
import type { ComputeParams } from "../../src/domain/ComputeParams.ts"

export const nodeParams = (
  given: Pick<ComputeParams, "pgdata" | "postgres"> & Partial<ComputeParams>
): ComputeParams => ({
  computeId: "test",
  connstr: "",
  pgbin: "/nowhere/bin/postgres",
  source: { _tag: "ControlPlane", uri: "", token: Redacted.make("") },
  externalHttpPort: 3080,
  internalHttpPort: 3081,
  externalHttpHost: undefined,
  internalHttpHost: "127.0.0.1",
  privilegedRoleName: "neon_superuser",
  reconcile: "incremental",
  runAs: undefined,
  remoteExtBaseUrl: undefined,
  cgroup: "",
  filecacheConnstr: "",
  vmMonitorAddr: "",
  resizeSwapOnBind: false,
  setDiskQuotaForFs: undefined,
  installedExtensionsCollectionInterval: 3600,
  dev: true,
  pgInitTimeout: undefined,
  lakebaseMode: false,
  instanceId: undefined,
  buildTag: "test",
  autoscaling: false,
  environment: {},
  basebackupRetries: 0,
  failpoints: undefined,
  ...given
})
