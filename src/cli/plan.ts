/**
 * `compute_ctl plan`: the SQL that bringing a server's catalogs up to a document would take, and why.
 *
 * Nothing is changed. Exit code 0: nothing to do; 3: something; 1: the document or the server cannot be read. With
 * `--json` what is wrong comes as JSON, too.
 */
import * as Effect from "effect/Effect"
import { type ComputeSpec, findSetting } from "../domain/ComputeSpec.ts"
import type { PlanParams } from "../domain/catalog/Commands.ts"
import { fromSpec, type InvalidCatalog } from "../domain/catalog/Desired.ts"
import type { Operation } from "../domain/catalog/Operation.ts"
import { identifier } from "../domain/catalog/quoting.ts"
import { describe } from "../domain/describe.ts"
import type { PgError } from "../layers/PgWire.ts"
import { Sql } from "../layers/Sql.ts"
import { preview } from "../programs/catalog/preview.ts"
import { readConfig, UnusableConfig } from "../programs/catalog/readConfig.ts"
import { oneLine } from "./printable.ts"

const nothing = 0
const failed = 1
const something = 3

const sqlOf = ({ statements }: Operation): string => {
  const lines = statements.map(({ shown }) => `${shown};`)
  return (lines.length > 1 ? ["BEGIN;", ...lines, "COMMIT;"] : lines).join("\n")
}

/** A name may hold anything; a comment ends with its line. */
const textOf = (operation: Operation, database: string): string =>
  [
    `-- ${oneLine(`${operation.operation} ${operation.object}: ${operation.reason}`)}`,
    ...(operation.database === undefined ? [] : [`-- in database ${oneLine(identifier(database))}`]),
    sqlOf(operation)
  ].join("\n")

const jsonOf = (operation: Operation, database: string) => ({
  operation: operation.operation,
  object: operation.object,
  database,
  reason: operation.reason,
  needs: operation.needs,
  sql: operation.statements.map(({ shown }) => shown)
})

/** Why a node would do nothing of it. */
const unapplied = ({ mode, skip_pg_catalog_updates }: ComputeSpec): ReadonlyArray<string> => {
  if (mode._tag !== "Primary") return ["mode is not Primary: a node would leave the catalogs alone"]
  return skip_pg_catalog_updates ? ["skip_pg_catalog_updates: a node would leave the catalogs alone"] : []
}

const plan = (params: PlanParams) =>
  Effect.gen(function* () {
    const { spec } = yield* readConfig(params.config)
    if (spec === undefined || spec === null) {
      return yield* new UnusableConfig({ field: "spec", message: "spec: there is none" })
    }
    const desired = yield* Effect.fromResult(
      fromSpec(spec, {
        privilegedRole: params.privilegedRoleName,
        lakebase: params.lakebaseMode,
        timelineId: spec.timeline_id ?? findSetting(spec, "neon.timeline_id") ?? ""
      })
    )
    const { operations, systemDatabase, ...made } = yield* preview(desired, params.full ? "full" : "incremental")
    const warnings = [...unapplied(spec), ...made.warnings]
    const named = operations.map((operation) => [operation, operation.database ?? systemDatabase] as const)
    if (params.json) {
      const document = { operations: named.map(([operation, database]) => jsonOf(operation, database)), warnings }
      process.stdout.write(`${JSON.stringify(document, null, 2)}\n`)
    } else {
      for (const warning of warnings) process.stderr.write(`warning: ${oneLine(warning)}\n`)
      const text = named.map(([operation, database]) => textOf(operation, database)).join("\n\n")
      process.stdout.write(operations.length === 0 ? "nothing to do\n" : `${text}\n`)
    }
    return operations.length === 0 ? nothing : something
  })

/** Where in the document. */
const fieldOf = (error: UnusableConfig | InvalidCatalog | PgError): string | undefined => {
  switch (error._tag) {
    case "UnusableConfig":
      return error.field
    case "InvalidCatalog":
      return `spec.${error.field}`
    case "PgError":
      return undefined
  }
}

/** Runs the command; the value is the exit code. */
export const main = (params: PlanParams): Effect.Effect<number> =>
  plan(params).pipe(
    Effect.provide(Sql.to(params.postgres)),
    Effect.catch((error) =>
      Effect.sync(() => {
        const field = fieldOf(error)
        const message = error._tag === "InvalidCatalog" ? `${field}: ${error.problem}` : describe(error)
        if (params.json) {
          process.stdout.write(`${JSON.stringify({ error: { field: field ?? null, message } })}\n`)
          return failed
        }
        const where = error._tag === "PgError" ? "" : `${params.config}: `
        process.stderr.write(`compute_ctl plan: ${where}${message}\n`)
        return failed
      })
    )
  )
