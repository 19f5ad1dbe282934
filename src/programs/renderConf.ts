/** postgresql.conf of this node for a spec. Source: reference/startup §13. */
import { readFile } from "node:fs/promises"
import * as Effect from "effect/Effect"
import type { ParsedSpec } from "../domain/ParsedSpec.ts"
import * as PostgresConf from "../domain/PostgresConf.ts"
import { Params } from "../layers/Params.ts"

/** Shared memory segments go to /dev/shm where the kernel does not overcommit (reference/startup §13, row 10). */
const overcommitIsStrict = Effect.promise(() =>
  readFile("/proc/sys/vm/overcommit_memory", "utf8").then(
    (text) => text.trim() === "2",
    () => false
  )
)

export const renderConf = (spec: ParsedSpec) =>
  Effect.gen(function* () {
    const params = yield* Params
    return yield* Effect.fromResult(
      PostgresConf.render({
        spec: spec.spec,
        privilegedRoleName: params.privilegedRoleName,
        internalHttpPort: params.internalHttpPort,
        tls: false,
        overcommitIsStrict: yield* overcommitIsStrict,
        lakebase: params.lakebaseMode ? { port: params.postgres.port } : undefined,
        platform: process.platform === "darwin" ? "darwin" : "linux"
      })
    )
  })
