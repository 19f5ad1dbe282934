/** Text from outside, on a terminal: control characters would act there instead of being shown. */

const escaped = (character: string): string => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`

/** Control characters and line separators as `\u001b`. */
export const oneLine = (text: string): string => text.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, escaped)

/** As `oneLine`, for each line of the text. */
export const lines = (text: string): ReadonlyArray<string> => text.split(/\r?\n/u).map(oneLine)
