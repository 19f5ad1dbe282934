/** A configuration document from a file, for the commands that look at it or send it. */
import { readFile } from "node:fs/promises"
import { text } from "node:stream/consumers"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { type ComputeConfig, decodeComputeConfig, parseJson } from "../../domain/ComputeConfig.ts"
import { firstIssue } from "../../domain/schemaIssue.ts"
import { errorCode } from "../../layers/DataDirectory.ts"

/** The file cannot be read, is no JSON, or has not the right shape. */
export class UnusableConfig extends Data.TaggedError("UnusableConfig")<{
  /** Where in the document; undefined: the whole of it. */
  readonly field: string | undefined
  readonly message: string
}> {}

const whole = (message: string) => new UnusableConfig({ field: undefined, message })

/** `spec.cluster.roles[0].name: Expected string` */
const split = (text: string): UnusableConfig => {
  const [, field] = /^([^\s:]+): /u.exec(text) ?? []
  return new UnusableConfig({ field, message: text })
}

/** The text of a file; `-`: standard input. */
const readText = (path: string): Effect.Effect<string, UnusableConfig> =>
  Effect.tryPromise({
    try: () => (path === "-" ? text(process.stdin) : readFile(path, "utf8")),
    catch: (cause) =>
      whole(`cannot be read: ${errorCode(cause) === "ENOENT" ? "no such file or directory" : errorCode(cause)}`)
  })

/** A JSON document from a file, or from standard input for `-`; whatever it holds. */
export const readDocument = (path: string): Effect.Effect<unknown, UnusableConfig> =>
  Effect.flatMap(readText(path), (json) =>
    Effect.fromResult(Result.mapError(parseJson(json), ({ message }) => whole(message)))
  )

export const readConfig = (path: string): Effect.Effect<ComputeConfig, UnusableConfig> =>
  Effect.flatMap(readDocument(path), (json) =>
    Effect.fromResult(Result.mapError(decodeComputeConfig(json), (error) => split(firstIssue(error))))
  )
