/**
 * How another process finds the local mode that runs on a data directory: `control.json`, which only its owner can read.
 *
 * It stands there while the storage is open. One that a killed process has left names a process that is gone.
 */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { describeLine } from "../domain/describe.ts"
import { TenantId } from "../domain/Identifiers.ts"
import { errorCode } from "../layers/DataDirectory.ts"
import * as jsonFile from "./jsonFile.ts"
import { livingProcess, ownSignature } from "./processes.ts"

const Contents = Schema.Struct({
  /** Pid and start. */
  process: Schema.String,
  /** Of the storage controller. */
  url: Schema.String,
  token: Schema.String,
  tenant_id: TenantId
})
const Control = jsonFile.of(Contents)

/** What a caller needs. */
export type Access = Omit<typeof Contents.Type, "process">

/** Nothing runs there, or it is somebody else's. */
export class NotRunning extends Data.TaggedError("NotRunning")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/** The file cannot be written. */
export class ControlFileFailed extends Data.TaggedError("ControlFileFailed")<{
  readonly message: string
  readonly cause: unknown
}> {}

const pathIn = (dataDir: string): string => join(dataDir, "control.json")

/** The file stands there until the Scope ends. */
export const publish = (dataDir: string, access: Access) => {
  const path = pathIn(dataDir)
  return Effect.acquireRelease(
    Effect.tryPromise({
      try: async () => Control.write(path, { ...access, process: await ownSignature() }, 0o600),
      catch: (cause) => new ControlFileFailed({ message: `cannot write ${path}`, cause })
    }),
    () => Effect.promise(() => fs.rm(path, { force: true }))
  )
}

/** Reads the file of a process that lives. */
export const find = (dataDir: string): Effect.Effect<Access, NotRunning> =>
  Effect.tryPromise({
    try: async () => {
      const found = await Control.read(pathIn(dataDir))
      return found !== undefined && (await livingProcess(found.process)) !== undefined ? found : undefined
    },
    catch: (cause) =>
      errorCode(cause) === "EACCES"
        ? new NotRunning({ message: `${dataDir} belongs to another user: run this as who started it` })
        : new NotRunning({ message: `cannot read ${pathIn(dataDir)}: ${describeLine(cause)}`, cause })
  }).pipe(
    Effect.filterOrFail(
      (found) => found !== undefined,
      () => new NotRunning({ message: `nothing runs on ${dataDir}: start it with \`compute_ctl local\`` })
    )
  )
