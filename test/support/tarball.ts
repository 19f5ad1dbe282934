/** Tar archives made by hand, block by block: also such as no program would make. */

export interface TarEntry {
  readonly name: string
  /** One character; `"0"` is a file. */
  readonly type?: string
  readonly mode?: number
  /** Seconds. */
  readonly mtime?: number
  readonly content?: Buffer | string
  /** What the header says of the size, if not the length of the content. */
  readonly size?: number
  readonly linkname?: string
  /** `"pageserver"`: GNU format, owner fields NUL, files of type NUL. */
  readonly style?: "ustar" | "pageserver"
}

const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, "0")}\0`

export const header = (entry: TarEntry): Buffer => {
  const { name, type = "0", mode = 0o600, mtime = 1_700_000_000, content = "", linkname = "", style = "ustar" } = entry
  const size = entry.size ?? Buffer.byteLength(content)
  const out = Buffer.alloc(512)
  out.write(name, 0, 100)
  out.write(octal(mode, 7), 100)
  if (style === "ustar") {
    out.write(octal(1000, 7), 108)
    out.write(octal(1000, 7), 116)
  }
  out.write(octal(size, 11), 124)
  out.write(octal(mtime, 11), 136)
  out.write(style === "pageserver" && type === "0" ? "\0" : type, 156)
  out.write(linkname, 157, 100)
  out.write(style === "ustar" ? "ustar\x0000" : "ustar  \0", 257)
  return sign(out)
}

/** Sets the checksum of a header that was changed. */
export const sign = (block: Buffer): Buffer => {
  block.fill(" ", 148, 156)
  let sum = 0
  for (const byte of block) sum += byte
  block.write(octal(sum, 7), 148)
  return block
}

const padding = (size: number): Buffer => Buffer.alloc((512 - (size % 512)) % 512)

export const entry = (entry: TarEntry): Buffer => {
  const content = Buffer.from(entry.content ?? "")
  return Buffer.concat([header(entry), content, padding(content.length)])
}

/** A pax header for the entry that follows. */
export const pax = (records: Readonly<Record<string, string>>): Buffer => {
  const content = Object.entries(records)
    .map(([name, value]) => {
      const rest = ` ${name}=${value}\n`
      let length = Buffer.byteLength(rest) + 2
      while (`${length}`.length + Buffer.byteLength(rest) !== length) length++
      return `${length}${rest}`
    })
    .join("")
  return entry({ name: "PaxHeader", type: "x", content })
}

export const endOfArchive = Buffer.alloc(1024)

export const archive = (...entries: ReadonlyArray<TarEntry | Buffer>): Buffer =>
  Buffer.concat([...entries.map((part) => (Buffer.isBuffer(part) ? part : entry(part))), endOfArchive])
