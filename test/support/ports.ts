/** Free ports, below those that the system gives to outgoing connections. */
import * as Net from "node:net"

const [lowest, highest] = [15_000, 30_000] as const

const listens = (host: string, port: number): Promise<"free" | "taken" | "unknown"> =>
  new Promise((resolve) => {
    const server = Net.createServer()
    server.once("error", (error) => resolve("code" in error && error.code === "EADDRINUSE" ? "taken" : "unknown"))
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve("free")))
  })

/** Nobody listens there, on any address. */
export const isFree = async (port: number): Promise<boolean> => {
  for (const host of ["0.0.0.0", "::"]) {
    if ((await listens(host, port)) === "taken") return false
  }
  return true
}

const given = new Set<number>()

/** A port that this process has not given out before. */
export const freePort = async (): Promise<number> => {
  while (true) {
    const port = lowest + Math.floor(Math.random() * (highest - lowest))
    if (given.has(port) || !(await isFree(port))) continue
    given.add(port)
    return port
  }
}
