/**
 * What a server of the Postgres protocol sends, as bytes, in the plain forms of pageservers and safekeepers.
 *
 * Source: reference/storage-protocols §0.3.
 */

/** One message: type byte, length, body. */
export const message = (type: string, body: Uint8Array = new Uint8Array(0)): Buffer => {
  const out = Buffer.allocUnsafe(5 + body.length)
  out.writeUInt8(type.charCodeAt(0), 0)
  out.writeUInt32BE(4 + body.length, 1)
  out.set(body, 5)
  return out
}

const text = (value: string): Buffer => Buffer.from(`${value}\0`, "utf8")

const uint32 = (value: number): Buffer => {
  const out = Buffer.allocUnsafe(4)
  out.writeUInt32BE(value)
  return out
}

/** ErrorResponse with the fields S, C and M and no others. */
export const errorResponse = (shown: string, sqlstate = "XX000"): Buffer =>
  message("E", text(`SERROR\0C${sqlstate}\0M${shown.replaceAll("\0", "")}\0`))

export const parameterStatus = (name: string, value: string): Buffer => message("S", text(`${name}\0${value}`))

/** A result column; `int4` and `int8` still travel as text. */
export interface Column {
  readonly name: string
  readonly type?: "text" | "int4" | "int8"
}

const types = { text: [25, -1], int4: [23, 4], int8: [20, 8] } as const

export const rowDescription = (columns: ReadonlyArray<Column>): Buffer => {
  const count = Buffer.allocUnsafe(2)
  count.writeUInt16BE(columns.length)
  const fields = columns.map((column) => {
    const [oid, size] = types[column.type ?? "text"]
    const field = Buffer.alloc(18)
    field.writeUInt32BE(oid, 6)
    field.writeInt16BE(size, 10)
    field.writeInt32BE(-1, 12)
    return Buffer.concat([text(column.name), field])
  })
  return message("T", Buffer.concat([count, ...fields]))
}

export const dataRow = (values: ReadonlyArray<string | null>): Buffer => {
  const count = Buffer.allocUnsafe(2)
  count.writeUInt16BE(values.length)
  const cells = values.flatMap((value) => {
    if (value === null) return [uint32(0xffffffff)]
    const bytes = Buffer.from(value, "utf8")
    return [uint32(bytes.length), bytes]
  })
  return message("D", Buffer.concat([count, ...cells]))
}

export const commandComplete = (tag: string): Buffer => message("C", text(tag))

export const copyData = (data: Uint8Array): Buffer => message("d", data)

export const authenticationOk = message("R", uint32(0))
export const authenticationCleartextPassword = message("R", uint32(3))
export const readyForQuery = message("Z", Buffer.from("I"))
export const parseComplete = message("1")
export const bindComplete = message("2")
export const closeComplete = message("3")
/** Describe claims "no parameters, no rows" for every statement. */
export const noDescription = Buffer.concat([message("t", new Uint8Array(2)), message("n")])
export const copyOutResponse = message("H", new Uint8Array(3))
export const copyBothResponse = message("W", new Uint8Array(3))
export const copyDone = message("c")
