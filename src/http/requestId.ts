/**
 * A random UUID, version 4, in lower case. From the ordinary generator: these ids are no secrets, and `node:crypto`
 * would cost 5 ms of the first answer.
 */
export const newRequestId = (): string =>
  "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx".replace(/[xy]/gu, (digit) => {
    const random = Math.floor(Math.random() * 16)
    return (digit === "x" ? random : (random & 3) | 8).toString(16)
  })
