/**
 * A random UUID, version 4, in lower case. From the ordinary generator: these ids are no secrets, and `node:crypto`
 * would cost 5 ms of the first answer.
 */
export const newRequestId = (): string =>
  `${hex(word())}-${pair()}-4${hex(word(), 3)}-${variants[word() & 3]}${hex(word(), 3)}-${pair()}${hex(word())}`

const variants = "89ab"

/** 32 random bits. */
const word = (): number => Math.floor(Math.random() * 0x1_0000_0000)

/** The lowest digits of a number. */
const hex = (bits: number, digits = 8): string => bits.toString(16).padStart(8, "0").slice(-digits)

const pair = (): string => hex(word(), 4)
