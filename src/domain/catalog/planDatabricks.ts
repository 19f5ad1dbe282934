/** Operations on what Databricks' Lakebase wants in the system database. Source: reference/catalog §8.11. */
import type { Draft } from "./Draft.ts"
import { extensionObject, roleObject, schemaObject, tableObject } from "./Operation.ts"

const monitor = "databricks_monitor"

const roles = [
  { role: monitor, options: "LOGIN PASSWORD NULL IN ROLE pg_monitor" },
  { role: "databricks_control_plane", options: "SUPERUSER LOGIN PASSWORD NULL" },
  { role: "databricks_gateway", options: "LOGIN PASSWORD NULL" }
] as const

const monitorTimeout = "60s"

/** Values of a time-out that mean that there is none. */
const unset: ReadonlySet<string | undefined> = new Set([undefined, "", "0"])

const setTimeout = (draft: Draft, role: string, value: string): void => {
  const { databricks } = draft.snapshot
  if (databricks?.timeouts.get(role) === value) return
  draft.add({
    stage: role === monitor ? "finish" : "system",
    change: { _tag: "SetRoleTimeout", role, value },
    reason: `its statements may take ${value}`,
    needs: [roleObject(role)]
  })
}

export const planDatabricksRoles = (draft: Draft): void => {
  const { databricks } = draft.snapshot
  if (databricks === undefined) return
  for (const { options, role } of roles) {
    if (draft.roles.has(role)) continue
    draft.roles.set(role, { verifier: undefined, dependents: undefined })
    draft.add({
      stage: "system",
      change: { _tag: "CreateServiceRole", role, options },
      reason: "lakebase mode wants it"
    })
  }
  const { readerTimeout, timeouts } = databricks
  if (readerTimeout === undefined || unset.has(readerTimeout)) return
  for (const role of timeouts.keys()) if (role !== monitor) setTimeout(draft, role, readerTimeout)
}

/** There is no way from one version to the next but a new start. */
export const planDatabricksAuth = (draft: Draft): void => {
  const { databricks, extensions } = draft.snapshot
  if (databricks === undefined) return
  const installed = extensions.get("databricks_auth")?.version
  if (databricks.authVersion === undefined) {
    draft.warnings.push('extension "databricks_auth" is not available on this server, going on without it')
  } else if (installed !== databricks.authVersion) {
    draft.add({
      stage: "finish",
      change: { _tag: "RecreateDatabricksAuth" },
      reason:
        installed === undefined
          ? "it is not installed"
          : `version ${installed} is installed, ${databricks.authVersion} is the default`
    })
  }
}

export const planDatabricksMonitor = (draft: Draft): void => {
  const { databricks } = draft.snapshot
  if (databricks === undefined) return
  const neonChanges = draft.operations.some(({ object }) => object === extensionObject("neon"))
  if (!databricks.monitorIsGranted || neonChanges) {
    draft.add({
      stage: "finish",
      change: { _tag: "GrantMonitor", role: monitor },
      reason: `${roleObject(monitor)} watches the health of the database`,
      needs: [roleObject(monitor), schemaObject("neon"), tableObject("public.health_check")]
    })
  }
  setTimeout(draft, monitor, monitorTimeout)
  if (databricks.healthFunction) return
  draft.add({
    stage: "finish",
    change: { _tag: "CreateHealthFunction" },
    reason: "it does not exist",
    needs: [tableObject("public.health_check")]
  })
}
