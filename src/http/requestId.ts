/** Bytes as two hex digits. */
const hex = Array.from({ length: 256 }, (_, byte) => (byte + 256).toString(16).slice(1))

/** 32 random bits. */
const word = (): number => (Math.random() * 0x1_0000_0000) >>> 0

/**
 * A random UUID, version 4, in lower case. From the ordinary generator: these ids are no secrets, and `node:crypto`
 * would cost 5 ms of the first answer.
 */
export const newRequestId = (): string => {
  const [a, b, c, d] = [word(), word(), word(), word()]
  const low = `${hex[a & 255]}${hex[(a >>> 8) & 255]}${hex[(a >>> 16) & 255]}${hex[a >>> 24]}`
  const middle = `${hex[b & 255]}${hex[(b >>> 8) & 255]}-${hex[((b >>> 16) & 15) | 64]}${hex[b >>> 24]}`
  const high = `${hex[(c & 63) | 128]}${hex[(c >>> 8) & 255]}-${hex[(c >>> 16) & 255]}${hex[c >>> 24]}`
  return `${low}-${middle}-${high}${hex[d & 255]}${hex[(d >>> 8) & 255]}${hex[(d >>> 16) & 255]}${hex[d >>> 24]}`
}
