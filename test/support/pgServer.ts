/**
 * A PostgreSQL server on the level of frames: each test scripts the bytes that its server sends.
 *
 * The helper reads the start-up packet and hands out what the client sends after it, message by message.
 */
import * as Net from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

export const frame = (type: string, ...body: ReadonlyArray<Buffer | string>): Buffer => {
  const content = Buffer.concat(body.map((part) => Buffer.from(part)))
  const out = Buffer.alloc(5)
  out.write(type, 0, "latin1")
  out.writeInt32BE(4 + content.length, 1)
  return Buffer.concat([out, content])
}

const int32 = (value: number): Buffer => {
  const out = Buffer.alloc(4)
  out.writeInt32BE(value)
  return out
}

const int16 = (value: number): Buffer => {
  const out = Buffer.alloc(2)
  out.writeInt16BE(value)
  return out
}

/** Authentication request number `method`. */
export const auth = (method: number, body: Buffer | string = ""): Buffer => frame("R", int32(method), body)
export const authOk = auth(0)
export const cleartextPassword = auth(3)
export const parameterStatus = (name: string, value: string): Buffer => frame("S", `${name}\0${value}\0`)
export const ready = frame("Z", "I")
export const rowDescription = (...columns: ReadonlyArray<string>): Buffer =>
  frame("T", int16(columns.length), ...columns.map((name) => `${name}\0${"\0".repeat(6)}\0\0\0\x19\0\0\0\0\0\0\0\0`))
export const dataRow = (...values: ReadonlyArray<string | null>): Buffer =>
  frame(
    "D",
    int16(values.length),
    ...values.map((value) =>
      value === null ? int32(-1) : Buffer.concat([int32(Buffer.byteLength(value)), Buffer.from(value)])
    )
  )
export const commandComplete = (tag: string): Buffer => frame("C", `${tag}\0`)
export const copyOutResponse = frame("H", "\0\0\0")
export const copyData = (bytes: Buffer): Buffer => frame("d", bytes)
export const copyDone = frame("c")
/** As the storage servers send it: severity, code and text, nothing else. */
export const errorResponse = (message: string, code = "XX000", severity = "ERROR"): Buffer =>
  frame("E", `S${severity}\0C${code}\0M${message}\0\0`)

/** What a server of the storage says after authentication, in its two forms. */
export const trusted = Buffer.concat([
  authOk,
  parameterStatus("client_encoding", "UTF8"),
  parameterStatus("integer_datetimes", "on"),
  parameterStatus("server_version", "14.1"),
  ready
])
export const tokenAccepted = Buffer.concat([authOk, parameterStatus("client_encoding", "UTF8"), ready])

/** A COPY of `bytes` without its end, in CopyData of 8 KiB. */
export const copyOf = (bytes: Buffer, pieceBytes = 8192): Buffer => {
  const pieces = [copyOutResponse]
  for (let at = 0; at < bytes.length; at += pieceBytes) pieces.push(copyData(bytes.subarray(at, at + pieceBytes)))
  return Buffer.concat(pieces)
}
export const copyEnd = Buffer.concat([copyDone, commandComplete("SELECT 1"), ready])

/** A message of the client: its type byte and its body as text, without the closing NUL. */
export interface Received {
  readonly type: string
  readonly body: Buffer
  readonly text: string
}

export interface Peer {
  /** Start-up parameters, in the order of the wire. */
  readonly startup: ReadonlyArray<readonly [string, string]>
  /** The next message of the client; undefined when it is gone. */
  readonly next: () => Promise<Received | undefined>
  /** Ends when the bytes have left this process. */
  readonly send: (...parts: ReadonlyArray<Buffer>) => Promise<void>
  /** Ends the connection after what was sent. */
  readonly end: () => void
  /** Ends when the client has closed. */
  readonly closed: Promise<void>
}

export interface PgServer {
  readonly port: number
  /** `postgresql://` address. */
  readonly url: string
  /** Connections seen, and those of them that are open. */
  readonly seen: () => number
  readonly open: () => number
  /** Ends when no connection is open any more; dies after a second. */
  readonly allClosed: Effect.Effect<void>
}

class Bytes {
  private chunks: Buffer = Buffer.alloc(0)
  private over = false
  private wake: (() => void) | undefined

  constructor(socket: Net.Socket) {
    socket.on("data", (chunk: Buffer) => {
      this.chunks = Buffer.concat([this.chunks, chunk])
      this.wake?.()
    })
    socket.on("close", () => {
      this.over = true
      this.wake?.()
    })
  }

  async read(length: number): Promise<Buffer | undefined> {
    while (this.chunks.length < length) {
      if (this.over) return undefined
      await new Promise<void>((resolve) => {
        this.wake = resolve
      })
    }
    const out = this.chunks.subarray(0, length)
    this.chunks = this.chunks.subarray(length)
    return out
  }
}

const readMessage = async (bytes: Bytes): Promise<Received | undefined> => {
  const header = await bytes.read(5)
  if (header === undefined) return undefined
  const body = await bytes.read(header.readInt32BE(1) - 4)
  if (body === undefined) return undefined
  return { type: header.toString("latin1", 0, 1), body, text: body.toString("utf8").replace(/\0$/u, "") }
}

/** A message, or a command of the extended protocol as one: Parse to Sync, its text the query. */
const readCommand = async (bytes: Bytes): Promise<Received | undefined> => {
  const first = await readMessage(bytes)
  if (first?.type !== "P") return first
  for (let at: Received | undefined = first; at?.type !== "S"; at = await readMessage(bytes)) {
    if (at === undefined) return undefined
  }
  return { ...first, text: first.body.toString("utf8").split("\0")[1] ?? "" }
}

const readStartup = async (bytes: Bytes): Promise<ReadonlyArray<readonly [string, string]> | undefined> => {
  const header = await bytes.read(8)
  if (header === undefined) return undefined
  if (header.readInt32BE(4) !== 196608) throw new Error(`not a start-up packet: ${header.toString("hex")}`)
  const body = await bytes.read(header.readInt32BE(0) - 8)
  const words = body?.toString("utf8").split("\0") ?? []
  const pairs: Array<readonly [string, string]> = []
  for (let i = 0; words[i] !== "" && i + 1 < words.length; i += 2) pairs.push([words[i] ?? "", words[i + 1] ?? ""])
  return pairs
}

/** Listens on loopback, or on a unix socket; the Scope closes everything. A script that ends leaves its connection open. */
export const listen = (
  script: (peer: Peer) => Promise<void>,
  where: { readonly host: string } | { readonly path: string } = { host: "127.0.0.1" }
): Effect.Effect<PgServer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const sockets = new Set<Net.Socket>()
    let seen = 0
    const serve = async (socket: Net.Socket): Promise<void> => {
      const bytes = new Bytes(socket)
      const closed = new Promise<void>((resolve) => {
        socket.once("close", () => resolve())
      })
      const startup = await readStartup(bytes)
      if (startup === undefined) return
      await script({
        startup,
        next: () => readCommand(bytes),
        send: (...parts) =>
          new Promise((resolve) => {
            if (socket.destroyed) resolve()
            else socket.write(Buffer.concat(parts), () => resolve())
          }),
        end: () => socket.end(),
        closed
      })
    }
    const server = yield* Effect.acquireRelease(
      Effect.callback<Net.Server>((resume) => {
        const server = Net.createServer((socket) => {
          seen++
          sockets.add(socket)
          socket.on("error", () => {})
          socket.once("close", () => sockets.delete(socket))
          serve(socket).catch(() => socket.destroy())
        })
        server.listen("path" in where ? where : { ...where, port: 0 }, () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.sync(() => {
          for (const socket of sockets) socket.destroy()
          server.close()
        })
    )
    const address = server.address()
    const port = address !== null && typeof address === "object" ? address.port : 0
    return {
      port,
      url: `postgresql://127.0.0.1:${port}`,
      seen: () => seen,
      open: () => sockets.size,
      allClosed: Effect.gen(function* () {
        while (sockets.size > 0) yield* Effect.sleep("5 millis")
      }).pipe(Effect.timeout("1 second"), Effect.orDie)
    }
  })
