/** A small document in a file; replaced as a whole. */
import * as fs from "node:fs/promises"
import * as Schema from "effect/Schema"
import { errorCode } from "../layers/DataDirectory.ts"

export const of = <S extends Schema.Codec<unknown, unknown>>(schema: S) => {
  const Text = Schema.fromJsonString(schema)
  const decodeText = Schema.decodeUnknownSync(Text)
  const encodeText = Schema.encodeSync(Text)
  return {
    decode: Schema.decodeUnknownSync(schema),
    /** Undefined where there is no file; rejects where it holds something else. */
    read: async (path: string): Promise<S["Type"] | undefined> => {
      const text = await fs.readFile(path, "utf8").catch((cause) => {
        if (errorCode(cause) === "ENOENT") return undefined
        throw cause
      })
      return text === undefined ? undefined : decodeText(text)
    },
    /** @param mode who may read it */
    write: async (path: string, value: S["Type"], mode = 0o644): Promise<void> => {
      const aside = `${path}.part`
      await fs.rm(aside, { force: true })
      await fs.writeFile(aside, encodeText(value), { mode })
      await fs.rename(aside, path)
    }
  }
}
