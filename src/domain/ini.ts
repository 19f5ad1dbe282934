/** Settings in an INI file, as that of pgbouncer: everything else in it stays as it is. */
import * as Data from "effect/Data"
import * as Result from "effect/Result"

export class IniError extends Data.TaggedError("IniError")<{ readonly message: string }> {}

const sectionOf = (line: string): string | undefined => /^\s*\[([^\]]*)\]/u.exec(line)?.[1]?.trim()
const keyOf = (line: string): string | undefined => /^\s*([^\s;#=[][^=]*?)\s*=/u.exec(line)?.[1]

/** A line break would begin a line of its own. */
const isOneLine = (text: string): boolean => !/[\r\n\0]/u.test(text)

/**
 * Sets keys of one section, each where it stands already, else at the section's end. Fails where there is no such section,
 * or where a key or value is not on one line.
 */
export const withSettings = (
  text: string,
  section: string,
  settings: Readonly<Record<string, string>>
): Result.Result<string, IniError> => {
  const bad = Object.entries(settings).find(
    ([key, value]) => !isOneLine(value) || !isOneLine(key) || keyOf(`${key}=`) !== key
  )
  if (bad !== undefined)
    return Result.fail(new IniError({ message: `${JSON.stringify(bad[0])} is no setting of one line` }))
  const lines = text.split("\n")
  const first = lines.findIndex((line) => sectionOf(line) === section)
  if (first < 0) return Result.fail(new IniError({ message: `there is no section [${section}]` }))
  const next = lines.findIndex((line, index) => index > first && sectionOf(line) !== undefined)
  const before = lines.slice(0, first + 1)
  const inside = lines.slice(first + 1, next < 0 ? undefined : next)
  const after = next < 0 ? [] : lines.slice(next)
  const left = new Map(Object.entries(settings))
  const changed = inside.flatMap((line) => {
    const key = keyOf(line)
    if (key === undefined || !(key in settings)) return [line]
    const value = left.get(key)
    left.delete(key)
    return value === undefined ? [] : [`${key} = ${value}`] // the same key a second time would win
  })
  const end = changed.findLastIndex((line) => line.trim() !== "") + 1
  const added = [...left].map(([key, value]) => `${key} = ${value}`)
  return Result.succeed([...before, ...changed.slice(0, end), ...added, ...changed.slice(end), ...after].join("\n"))
}
