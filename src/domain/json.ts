/**
 * JSON documents as text.
 *
 * `JSON.parse` does the work. Its messages quote the document, which may carry passwords, and often lack a position:
 * a text that it refuses is walked once more to say what is wrong and where. Source: reference/compute-spec §16.
 */
import * as Data from "effect/Data"
import * as Result from "effect/Result"

/** The text is not one JSON document. The message ends in `at line L column C`, both counted from 1. */
export class InvalidJson extends Data.TaggedError("InvalidJson")<{ readonly message: string }> {}

interface Problem {
  readonly at: number
  readonly what: string
}

const spaces = /[ \t\n\r]*/uy
const scalar = /true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/uy
const stringBody = /"[^"\\\0-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\0-\x1f]*)*/uy
/** Half of a surrogate pair, or a whole one. */
const surrogate = /\\u[dD][89a-fA-F]/u

/** The position behind the match of a sticky pattern; the same position when there is none. */
const skip = (pattern: RegExp, text: string, at: number): number => {
  pattern.lastIndex = at
  return pattern.test(text) ? pattern.lastIndex : at
}

const isWellFormed = (literal: string): boolean => {
  const value: unknown = surrogate.test(literal) ? JSON.parse(literal) : ""
  return typeof value !== "string" || value.isWellFormed()
}

/** A string from its opening quote: the position behind it, or what is wrong in it. */
const readString = (text: string, start: number): number | Problem => {
  const end = skip(stringBody, text, start)
  if (end === text.length) return { at: end, what: "EOF while parsing a string" }
  if (text[end] === "\\") return { at: end, what: "invalid escape" }
  if (text[end] !== '"') return { at: end, what: "control character found while parsing a string" }
  return isWellFormed(text.slice(start, end + 1)) ? end + 1 : { at: start, what: "lone surrogate in a string" }
}

/** A key and its colon. */
const readKey = (text: string, start: number): number | Problem => {
  if (start === text.length) return { at: start, what: "EOF while parsing an object" }
  if (text[start] !== '"') return { at: start, what: "key must be a string" }
  const end = readString(text, start)
  if (typeof end !== "number") return end
  const colon = skip(spaces, text, end)
  if (text[colon] === ":") return skip(spaces, text, colon + 1)
  return { at: colon, what: colon === text.length ? "EOF while parsing an object" : "expected `:`" }
}

const readScalar = (text: string, start: number): number | Problem => {
  if (start === text.length) return { at: start, what: "EOF while parsing a value" }
  if (text[start] === '"') return readString(text, start)
  const end = skip(scalar, text, start)
  return end === start ? { at: start, what: "expected value" } : end
}

/** The first thing wrong with a text; undefined when it is one JSON document. Not recursive: the depth is the sender's. */
const findProblem = (text: string): Problem | undefined => {
  const open: Array<"object" | "array"> = []
  let at = skip(spaces, text, 0)
  while (true) {
    // A value begins here.
    if (text[at] === "{" || text[at] === "[") {
      const [kind, end] = text[at] === "{" ? (["object", "}"] as const) : (["array", "]"] as const)
      at = skip(spaces, text, at + 1)
      if (text[at] !== end) {
        open.push(kind)
        const start = kind === "object" ? readKey(text, at) : at
        if (typeof start !== "number") return start
        at = start
        continue
      }
      at++
    } else {
      const end = readScalar(text, at)
      if (typeof end !== "number") return end
      at = end
    }
    // A value ended here: what is around it goes on, or ends too.
    for (at = skip(spaces, text, at); ; at = skip(spaces, text, at + 1)) {
      const kind = open.at(-1)
      if (kind === undefined) return at === text.length ? undefined : { at, what: "trailing characters" }
      if (at === text.length) return { at, what: `EOF while parsing an ${kind}` }
      const end = kind === "object" ? "}" : "]"
      if (text[at] === end) {
        open.pop()
        continue
      }
      if (text[at] !== ",") return { at, what: `expected \`,\` or \`${end}\`` }
      at = skip(spaces, text, at + 1)
      if (text[at] === end) return { at, what: "trailing comma" }
      const start = kind === "object" ? readKey(text, at) : at
      if (typeof start !== "number") return start
      at = start
      break
    }
  }
}

const invalid = (text: string, { at, what }: Problem): InvalidJson => {
  const lines = text.slice(0, at).split("\n")
  return new InvalidJson({ message: `${what} at line ${lines.length} column ${(lines.at(-1)?.length ?? 0) + 1}` })
}

/**
 * Reads exactly one JSON document: text behind it, a byte order mark and halves of surrogate pairs are refused.
 * A key that occurs twice counts with its last value; `__proto__` is a key like any other.
 */
export const parseJson = (text: string): Result.Result<unknown, InvalidJson> => {
  try {
    const value: unknown = JSON.parse(text)
    const problem = surrogate.test(text) ? findProblem(text) : undefined
    return problem === undefined ? Result.succeed(value) : Result.fail(invalid(text, problem))
  } catch {
    return Result.fail(invalid(text, findProblem(text) ?? { at: 0, what: "not a JSON document" }))
  }
}
