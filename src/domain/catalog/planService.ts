/** Operations on the service objects of the system database. Source: reference/catalog §8.7, §8.11, §11, §12.1, §14. */
import type { Draft } from "./Draft.ts"
import { extensionObject, schemaObject, stateObject, subscriptionsObject } from "./Operation.ts"
import type { Visit } from "./planContents.ts"
import { migrationSchema } from "./stateTable.ts"

export const planServiceSchemas = (draft: Draft): void => {
  const { snapshot } = draft
  if (!snapshot.schemas.has("neon")) {
    draft.add({ stage: "system", change: { _tag: "CreateSchemaNeon" }, reason: "it does not exist" })
  }
  if (!snapshot.stateTable) {
    draft.add({
      stage: "system",
      change: { _tag: "PrepareState", admin: snapshot.admin },
      reason: snapshot.schemas.has(migrationSchema) ? "it does not exist" : "it and its schema do not exist"
    })
  }
}

const planNeon = (draft: Draft): void => {
  const { neonVersion, extensions } = draft.snapshot
  if (neonVersion === undefined) {
    draft.warnings.push('extension "neon" is not available on this server, going on without it')
    return
  }
  const extension = "neon"
  const live = extensions.get(extension)
  if (live === undefined) {
    draft.add({
      stage: "finish",
      change: { _tag: "CreateExtension", extension, schema: "neon" },
      reason: "it is not installed",
      needs: [schemaObject("neon")]
    })
    return
  }
  if (live.schema !== "neon") {
    draft.add({
      stage: "finish",
      change: { _tag: "RelocateNeon", relocatable: live.relocatable },
      reason: `it is in ${schemaObject(live.schema)}`,
      needs: [schemaObject("neon")]
    })
  }
  if (live.version !== neonVersion) {
    draft.add({
      stage: "finish",
      change: { _tag: "UpdateExtension", extension },
      reason: `version ${live.version} is installed, ${neonVersion} is the default`,
      needs: [extensionObject(extension)]
    })
  }
}

const planExtension = (draft: Draft, extension: string): void => {
  if (draft.snapshot.extensions.has(extension)) return
  draft.add({
    stage: "finish",
    change: { _tag: "CreateExtension", extension, schema: "public" },
    reason: "the document asks for it, and it is not installed"
  })
}

export const planExtensions = (draft: Draft): void => {
  if (draft.desired.extensions.includes("pg_stat_statements")) planExtension(draft, "pg_stat_statements")
  planNeon(draft)
}

export const planHealthCheck = (draft: Draft): void => {
  if (draft.snapshot.healthCheck) return
  draft.add({
    stage: "finish",
    change: { _tag: "CreateHealthCheck" },
    reason: "it does not exist"
  })
}

/** Only once every database is rid of its subscriptions. */
export const planSubscriptionsRecord = (draft: Draft, visits: ReadonlyArray<Visit>): void => {
  const { timelineId } = draft.desired
  draft.add({
    stage: "finish",
    change: { _tag: "RecordSubscriptionsDropped", timelineId },
    reason: "inherited subscriptions are dropped once for each timeline",
    needs: [
      schemaObject("neon"),
      ...visits.flatMap(({ database, dropSubscriptions }) => (dropSubscriptions ? [subscriptionsObject(database)] : []))
    ]
  })
}

/** Last, so that the audit sees everything before. */
export const planAudit = (draft: Draft): void => {
  const audits = draft.desired.extensions.filter((extension) => extension !== "pg_stat_statements")
  for (const extension of audits) planExtension(draft, extension)
  if (audits.length === 0 || draft.snapshot.auditSilenced) return
  draft.add({
    stage: "finish",
    change: { _tag: "SilenceAudit" },
    reason: "our own work is not audited",
    needs: audits.map(extensionObject)
  })
}

/** What was done inside the databases is remembered for those where nothing failed; the executor leaves out the others. */
export const planRemember = (draft: Draft, visits: ReadonlyArray<Visit>): void => {
  const fingerprints = visits.flatMap(({ database, fingerprint, isRemembered }) =>
    fingerprint === undefined || isRemembered ? [] : [[database, fingerprint] as const]
  )
  if (fingerprints.length === 0) return
  draft.add({
    stage: "finish",
    change: { _tag: "RememberContents", timelineId: draft.desired.timelineId, fingerprints },
    reason: "so that unchanged databases need not be entered again",
    needs: [stateObject]
  })
}
