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

/** Any name that the server keeps whole: 1 to 63 bytes of UTF-8, no NUL. */
export const AnyName: Arbitrary.Arbitrary<string> = Arbitrary.flatMap(
  Arbitrary.schema(Schema.Literals(["hostile", "made"])),
  (kind) =>
    kind === "hostile"
      ? Arbitrary.schema(Schema.Literals(hostileNames))
      : Arbitrary.map(Arbitrary.array(Arbitrary.schema(Piece), { minLength: 1, maxLength: 15 }), (pieces) =>
          pieces.join("")
        )
)
