/** Answers as they came over a socket, taken apart. */

export interface WireReply {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
}

/** Body in chunks, and what is behind it; undefined where it is not whole. */
const unchunk = (text: string): readonly [body: string, rest: string] | undefined => {
  let body = ""
  for (let rest = text; ; ) {
    const [line] = /^[^\r]*\r\n/u.exec(rest) ?? []
    if (line === undefined) return undefined
    const length = Number.parseInt(line, 16)
    const chunk = rest.slice(line.length, line.length + length)
    const behind = rest.slice(line.length + length)
    if (chunk.length < length || !behind.startsWith("\r\n")) return undefined
    if (length === 0) return [body, behind.slice(2)]
    body += chunk
    rest = behind.slice(2)
  }
}

/**
 * The whole answers in what was received, interim ones left out.
 *
 * @param received as latin1
 * @param method of the requests: answers to HEAD have no body
 */
export const repliesIn = (received: string, method: string): ReadonlyArray<WireReply> => {
  const end = received.indexOf("\r\n\r\n")
  const status = Number(/^HTTP\/1\.1 (\d{3}) /u.exec(received)?.[1])
  if (end < 0 || Number.isNaN(status)) return []
  const headers = Object.fromEntries(
    received
      .slice(0, end)
      .split("\r\n")
      .slice(1)
      .map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()])
  )
  const behind = received.slice(end + 4)
  if (status < 200) return repliesIn(behind, method)
  const length = Number(headers["content-length"] ?? 0)
  const found: readonly [string, string] | undefined =
    method === "HEAD"
      ? ["", behind]
      : headers["transfer-encoding"] === "chunked"
        ? unchunk(behind)
        : behind.length < length
          ? undefined
          : [behind.slice(0, length), behind.slice(length)]
  if (found === undefined) return []
  const [body, rest] = found
  return [{ status, headers, text: Buffer.from(body, "latin1").toString() }, ...repliesIn(rest, method)]
}
