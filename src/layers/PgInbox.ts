/**
 * The receiving side of a PostgreSQL connection: splits what the socket reads into messages and COPY payload.
 *
 * Payload is copied once, from the socket's buffer into one of two buffers that take turns, so that a long COPY makes no
 * garbage; a CopyData message may be of any size. All other messages are decoded by `PgProtocol`.
 */
import * as PgProtocol from "@effect/sql-pg/PgProtocol"

export type Message = PgProtocol.BackendMessage

/** What has come since the last look. Payload precedes a CopyDone of the same batch and follows its CopyOutResponse. */
export interface Batch {
  readonly messages: ReadonlyArray<Message>
  /** Valid until the next `take`. */
  readonly payload: Uint8Array | undefined
}

/** No row of a catalog comes near it; bytes that are not the PostgreSQL protocol nearly always exceed it. */
const maxMessageBytes = 64 * 1024 * 1024

const copyDataType = 0x64
const headerBytes = 5

export class PgInbox {
  /** Called when there is something to take. */
  waiter: (() => void) | undefined
  /** What the socket reads into. */
  readonly input: Buffer
  private readonly parser = PgProtocol.makeParser({ maxMessageSize: maxMessageBytes })
  private messages: Array<Message> = []
  /** The part of `input` that was read and not split yet. */
  private at = 0
  private end = 0
  /** Bytes of the message under way that are still to come. */
  private payloadLeft = 0
  private bodyLeft = 0
  /** A header that the end of the input cut. */
  private readonly header = Buffer.alloc(headerBytes)
  private headerFill = 0
  /** Made by the first COPY: one receives, the other is with the reader. */
  private filling: Uint8Array | undefined
  private lent: Uint8Array | undefined
  private filled = 0

  constructor(bufferBytes: number) {
    this.input = Buffer.allocUnsafeSlow(bufferBytes)
  }

  /** True when `take` has to come before the next read. */
  get isFull(): boolean {
    return this.at < this.end
  }

  /** The socket has read `length` bytes into `input`. Throws when they are not the PostgreSQL protocol. */
  accept(length: number): void {
    this.at = 0
    this.end = length
    this.split()
    if (this.messages.length > 0 || this.filled > 0) this.waiter?.()
  }

  /** What has come, if anything. Throws like `accept`. */
  take(): Batch | undefined {
    if (this.messages.length === 0 && this.filled === 0) return undefined
    const messages = this.messages
    const payload = this.filled === 0 ? undefined : this.filling?.subarray(0, this.filled)
    this.messages = []
    if (payload !== undefined) {
      const returned = this.lent
      this.lent = this.filling
      this.filling = returned
      this.filled = 0
    }
    if (this.isFull) this.split()
    return { messages, payload }
  }

  private split(): void {
    const { input, end } = this
    let { at } = this
    /** Start of the messages that go to the parser in one piece. */
    let run = at
    while (at < end) {
      if (this.payloadLeft > 0) {
        const taken = this.store(at, Math.min(this.payloadLeft, end - at))
        if (taken === 0) break
        this.payloadLeft -= taken
        at += taken
        run = at
      } else if (this.bodyLeft > 0) {
        const taken = Math.min(this.bodyLeft, end - at)
        this.bodyLeft -= taken
        at += taken
      } else if (this.headerFill === 0 && end - at >= headerBytes) {
        if (this.begin(input, at)) {
          this.parse(run, at)
          run = at + headerBytes
        }
        at += headerBytes
      } else {
        this.parse(run, at)
        const part = Math.min(headerBytes - this.headerFill, end - at)
        input.copy(this.header, this.headerFill, at, at + part)
        this.headerFill += part
        at += part
        run = at
        if (this.headerFill === headerBytes) {
          this.headerFill = 0
          if (!this.begin(this.header, 0)) this.parser.pushEach(this.header, this.receive)
        }
      }
    }
    this.parse(run, at)
    this.at = at
  }

  private parse(from: number, to: number): void {
    if (from < to) this.parser.pushEach(this.input.subarray(from, to), this.receive)
  }

  private readonly receive = (message: Message): void => {
    this.messages.push(message)
  }

  /** Reads a header; true when COPY payload follows, which the parser does not see. */
  private begin(bytes: Buffer, at: number): boolean {
    const length = bytes.readInt32BE(at + 1)
    if (bytes[at] !== copyDataType) {
      this.bodyLeft = length - 4
      return false
    }
    if (length < 4) throw new Error(`CopyData of length ${length}`)
    this.payloadLeft = length - 4
    return true
  }

  private store(at: number, length: number): number {
    this.filling ??= new Uint8Array(this.input.length)
    const taken = Math.min(length, this.filling.length - this.filled)
    this.filling.set(this.input.subarray(at, at + taken), this.filled)
    this.filled += taken
    return taken
  }
}
