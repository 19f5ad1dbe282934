/**
 * Joins the lines that Postgres logs into messages.
 *
 * A line with a time stamp begins a message, other lines continue it. A message leaves as one line: `PG:`, then its
 * lines joined by U+200B. When no line follows for a while the caller flushes. Source: reference/startup §15.3;
 * differs: decision O1, messages are bounded and what is dropped is counted.
 */

const begins = /^\d+-\d{2}-\d{2} \d{2}:\d{2}:\d{2}/u
const prefix = "PG:"
/** Zero-width space: readers of the log find the line ends again. */
const separator = "\u200B"
/** Of a message, in UTF-8. A plan or a statement that is longer is cut. */
const defaultLimitBytes = 64 * 1024

const byteLength = (text: string): number => Buffer.byteLength(text)

/** The longest beginning of a text that fits, never half a character. */
const head = (text: string, bytes: number): string => {
  if (byteLength(text) <= bytes) return text
  // In a stream the decoder keeps back what is not complete.
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.from(text).subarray(0, bytes), { stream: true })
}

export interface Joiner {
  /** Takes a line without its line end; returns the message that ended with it, without a line end. */
  readonly push: (line: string) => string | undefined
  /** Returns what is held, if anything. */
  readonly flush: () => string | undefined
  /** Bytes that were cut from messages so far. */
  readonly droppedBytes: () => number
}

/** An empty joiner. It holds at most `limitBytes` of text. */
export const makeJoiner = (limitBytes: number = defaultLimitBytes): Joiner => {
  let held = ""
  let heldBytes = 0
  let dropped = 0
  let droppedTotal = 0

  const flush = (): string | undefined => {
    if (held === "") return undefined
    const message = dropped === 0 ? held : `${held}${separator}(${dropped} bytes dropped)`
    held = ""
    heldBytes = 0
    dropped = 0
    return message
  }
  const append = (text: string): void => {
    const kept = dropped === 0 ? head(text, limitBytes - heldBytes) : ""
    const lost = byteLength(text) - byteLength(kept)
    held += kept
    heldBytes += byteLength(kept)
    dropped += lost
    droppedTotal += lost
  }
  return {
    push: (line) => {
      const complete = begins.test(line) ? flush() : undefined
      append(held === "" ? prefix + line : separator + line)
      return complete
    },
    flush,
    droppedBytes: () => droppedTotal
  }
}
