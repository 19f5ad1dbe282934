/** Names as users choose them, and worse. */
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

/** What has broken somebody's SQL before. */
export const hostileNames: ReadonlyArray<string> = [
  "role with spaces",
  "role with%20spaces ",
  "tab\there",
  "line\nbreak",
  "'; SELECT pg_sleep(1000);",
  "hash#and&a=true",
  "🐘 and 👩‍👩‍👧",
  "\";with ';injections $$ $x$ $ %I !/\\&#@",
  '"in double quotes"',
  "'in single quotes'",
  "ends in $",
  "ends in $$",
  "ends in $x$",
  "x",
  "xx",
  "$x",
  "x$",
  "$x$",
  "xx$",
  "$xx",
  "$xx$",
  "x".repeat(63),
  "; RAISE EXCEPTION 'SQL injection detected;",
  "\\",
  "\\'",
  "\u0001\u0007\u007f",
  "__proto__",
  "constructor",
  "ро́ль",
  "UPPER",
  "%s %I %L"
]

const alphabet = [
  "x",
  "$",
  "'",
  '"',
  "\\",
  ";",
  " ",
  "%",
  "a",
  "Z",
  "é",
  "€",
  "🐘",
  "\n",
  "\t",
  "\u0001",
  "-",
  "/",
  "(",
  ")"
]

const Piece = Schema.Literals(alphabet)

/** Any character but NUL and halves of surrogate pairs. */
const AnyCharacter = Arbitrary.map(
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 0x10ffff - 0x800 }))),
  (point) => String.fromCodePoint(point < 0xd800 ? point : point + 0x800)
)

const bytes = (text: string): number => Buffer.byteLength(text)

/** As much of a text as the server keeps of a name. */
const cut = (text: string): string => {
  let name = ""
  for (const character of text) {
    if (bytes(name + character) > 63) break
    name += character
  }
  return name
}

const long = Arbitrary.map(Arbitrary.array(AnyCharacter, { minLength: 64, maxLength: 64 }), (all) => all.join(""))

/** Any name that the server keeps whole: 1 to 63 bytes of UTF-8, no NUL. Many have all 63. */
export const AnyName: Arbitrary.Arbitrary<string> = Arbitrary.flatMap(
  Arbitrary.schema(Schema.Literals(["hostile", "made", "any", "long"])),
  (kind) => {
    switch (kind) {
      case "hostile":
        return Arbitrary.schema(Schema.Literals(hostileNames))
      case "made":
        return Arbitrary.map(Arbitrary.array(Arbitrary.schema(Piece), { minLength: 1, maxLength: 15 }), (pieces) =>
          pieces.join("")
        )
      case "any":
        return Arbitrary.map(Arbitrary.array(AnyCharacter, { minLength: 1, maxLength: 15 }), (all) => all.join(""))
      case "long":
        return Arbitrary.map(long, (text) => {
          const name = cut(text)
          return name + "x".repeat(63 - bytes(name))
        })
    }
  }
)

/** One byte more than the server keeps, and many more. */
export const TooLongName: Arbitrary.Arbitrary<string> = Arbitrary.flatMap(
  Arbitrary.schema(Schema.Literals(["one more", "many more"])),
  (kind) =>
    Arbitrary.map(long, (text) => {
      const name = cut(text)
      return kind === "one more" ? name + "x".repeat(64 - bytes(name)) : text
    })
)
