/**
 * Requests to our servers and what they answered: the helpers of the tests write them down, and after each test they are
 * compared with openapi.json (contractSetup.ts).
 */

export type Server = "external" | "internal"

export interface Exchange {
  readonly server: Server
  /** Method and target: `GET /status`. */
  readonly what: string
  readonly status: number
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
  readonly text: string
}

const servers = new Map<number, Server>()
const exchanges = new Map<string, Exchange>()

/** From now on that port is one of ours, until the result is called. */
export const ours = (port: number, server: Server): (() => void) => {
  servers.set(port, server)
  return () => servers.delete(port)
}

/** Writes down what came from a port, where that is one of ours. */
export const record = (port: number, what: string, reply: Omit<Exchange, "server" | "what">): void => {
  const server = servers.get(port)
  if (server === undefined) return
  const { headers, status, text } = reply
  exchanges.set(JSON.stringify([server, what, status, text]), { server, what, status, headers, text })
}

/** What was written down since the last time, each answer once. */
export const take = (): ReadonlyArray<Exchange> => {
  const taken = [...exchanges.values()]
  exchanges.clear()
  return taken
}
