import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Quoting from "../../../src/domain/catalog/quoting.ts"
import { AnyName } from "./names.ts"

/** What the server's lexer reads in a quoted identifier. */
const readIdentifier = (text: string): string | undefined => {
  const inner = /^"((?:[^"]|"")*)"$/su.exec(text)?.[1]
  return inner?.replaceAll('""', '"')
}

/** What the server's lexer reads in a literal, under either value of standard_conforming_strings. */
const readLiteral = (text: string, conforming: boolean): string | undefined => {
  const [, escape, inner] = /^(E?)'((?:[^'\\]|''|\\.)*)'$/su.exec(text) ?? []
  if (inner === undefined) return undefined
  const escapes = escape === "E" || !conforming
  return inner.replaceAll("''", "'").replace(/\\(.)/gsu, escapes ? "$1" : "\\$1")
}

const readDollar = (text: string): string | undefined => {
  const tag = /^\$x+\$/u.exec(text)?.[0]
  if (tag === undefined) return undefined
  const end = text.indexOf(tag, tag.length)
  return end === text.length - tag.length ? text.slice(tag.length, end) : undefined
}

describe("quoting", () => {
  it("identifiers are always quoted", () => {
    assert.strictEqual(Quoting.identifier('"name";\\n select 1;'), '"""name"";\\n select 1;"')
    assert.strictEqual(Quoting.identifier("simple"), '"simple"')
  })

  it("literals with a backslash are escape strings", () => {
    assert.strictEqual(Quoting.literal("test"), "'test'")
    assert.strictEqual(Quoting.literal("test'"), "'test'''")
    assert.strictEqual(Quoting.literal("test\\'"), "E'test\\\\'''")
    assert.strictEqual(Quoting.literal("test\\'\\'"), "E'test\\\\''\\\\'''")
  })

  it.each([
    ["name", "$x$name$x$"],
    ["name$", "$x$name$$x$"],
    ["name$$$$", "$x$name$$$$$x$"],
    ["name$x$", "$xx$name$x$$xx$"],
    ["x", "$xx$x$xx$"],
    ["xx", "$xxx$xx$xxx$"],
    ["$xx$", "$xxx$$xx$$xxx$"],
    ["$x", "$xx$$x$xx$"],
    ["$x$", "$xx$$x$$xx$"]
  ])("dollar quotes around %s have a tag of their own", (text, quoted) => {
    assert.strictEqual(Quoting.dollarQuote(text), quoted)
  })

  it("S-097 options of a database are rendered by their type", () => {
    assert.strictEqual(
      Quoting.optionList([
        { name: "LC_COLLATE", value: "C", vartype: "string" },
        { name: "LC_CTYPE", value: "C", vartype: "string" },
        { name: "TEMPLATE", value: "template0", vartype: "enum" },
        { name: "NOSUPERUSER", value: null, vartype: "bool" }
      ]),
      "LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0 NOSUPERUSER"
    )
  })

  it.prop("any name is read back from an identifier", [AnyName], ([name]) => {
    assert.strictEqual(readIdentifier(Quoting.identifier(name)), name)
    assert.notStrictEqual(Quoting.identifier(Quoting.identifier(name)), Quoting.identifier(name))
  })

  it.prop("any text is read back from a literal, however the server treats backslashes", [AnyName], ([text]) => {
    const quoted = Quoting.literal(text)
    assert.strictEqual(readLiteral(quoted, true), text)
    assert.strictEqual(readLiteral(quoted, false), text)
    assert.strictEqual(quoted.startsWith("E"), text.includes("\\"))
  })

  it.prop("any text is read back from dollar quotes, also inside a block", [AnyName], ([text]) => {
    const quoted = Quoting.dollarQuote(text)
    assert.strictEqual(readDollar(quoted), text)
    const block = Quoting.block(`BEGIN PERFORM ${quoted}; END`)
    assert.strictEqual(readDollar(block.slice("DO ".length)), `BEGIN PERFORM ${quoted}; END`)
  })

  it.prop("any string survives dollar quotes", [Schema.String], ([text]) => {
    assert.strictEqual(readDollar(Quoting.dollarQuote(text)), text)
  })
})
