/** Texts of errors for people: `/status.error`, log lines, exit messages. */

/** The texts of an error and its causes; a cause that the text before it ends with says nothing new. */
const chain = (error: unknown): ReadonlyArray<string> => {
  const parts: Array<string> = []
  for (let at = error; at !== undefined && at !== null && parts.length < 10; ) {
    const text = at instanceof Error ? at.message || at.name : String(at)
    if (parts.at(-1)?.endsWith(text) !== true) parts.push(text)
    at = at instanceof Error ? at.cause : undefined
  }
  return parts
}

/** One line: the message and its causes joined by `: `. */
export const describeLine = (error: unknown): string => chain(error).join(": ")

/** Several lines: the message, an empty line, `Caused by:` and the indented causes (reference/startup §22). */
export const describe = (error: unknown): string => {
  const [outermost = "unknown error", ...causes] = chain(error)
  if (causes.length === 0) return outermost
  const lines = causes.map((text, index) =>
    causes.length === 1 ? `    ${text}` : `${String(index).padStart(5)}: ${text}`
  )
  return `${outermost}\n\nCaused by:\n${lines.join("\n")}`
}
