/** Parts of documents that are made from the code: what stands between `<!-- NAME -->` and `<!-- /NAME -->`. */
import { readFileSync, writeFileSync } from "node:fs"

/** The document with fresh content in that part; undefined where it has no such part. */
export const withPart = (document: string, name: string, content: string): string | undefined => {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const [from, to] = [document.indexOf(begin), document.indexOf(end)]
  return from < 0 || to < from
    ? undefined
    : `${document.slice(0, from)}${begin}\n\n${content.trim()}\n\n${document.slice(to)}`
}

/** Text of a table cell. */
export const cell = (text: string): string => text.replaceAll("|", "\\|")

export const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |\n`).join("")

/**
 * What such a script does: without a file it prints the part, with one it writes the part there.
 *
 * @param args arguments of the script
 */
export const main = (args: ReadonlyArray<string>, name: string, content: string): void => {
  const [file] = args
  if (file === undefined) {
    process.stdout.write(`${content.trim()}\n`)
    return
  }
  const fresh = withPart(readFileSync(file, "utf8"), name, content)
  if (fresh === undefined) throw new Error(`${file} has no lines <!-- ${name} --> and <!-- /${name} -->`)
  writeFileSync(file, fresh)
}
