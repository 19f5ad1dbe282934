/** As much of a browser as the documentation page needs: elements that hold elements and texts. */
import { createContext, runInContext } from "node:vm"

type Child = Element | string

export class Element {
  readonly name: string
  readonly attributes = new Map<string, string>()
  readonly listeners = new Map<string, (event: { readonly target: unknown }) => void>()
  hidden = false
  private children: Array<Child> = []

  constructor(name: string) {
    this.name = name
  }

  setAttribute(name: string, value: string): void {
    this.attributes.set(name, value)
  }

  append(...children: ReadonlyArray<Child>): void {
    this.children.push(...children)
  }

  addEventListener(type: string, listener: (event: { readonly target: unknown }) => void): void {
    this.listeners.set(type, listener)
  }

  set textContent(text: string) {
    this.children = [text]
  }

  get textContent(): string {
    return this.children.map((child) => (typeof child === "string" ? child : child.textContent)).join("")
  }

  /** Itself and everything in it. */
  get all(): ReadonlyArray<Element> {
    return [this, ...this.children.flatMap((child) => (typeof child === "string" ? [] : child.all))]
  }
}

/** Runs the script of a page; ends once it has shown what `answer` gave it. */
export const open = async (
  html: string,
  answer: { readonly ok: boolean; readonly status: number; readonly json: () => unknown }
) => {
  const root = new Element("html")
  for (const [, id = ""] of html.matchAll(/<\w+[^>]* id="([^"]+)"/gu)) {
    const element = new Element("div")
    element.setAttribute("id", id)
    root.append(element)
  }
  const byId = (id: string): Element | undefined => root.all.find((element) => element.attributes.get("id") === id)
  const [, script = ""] = /<script>(.*?)<\/script>/su.exec(html) ?? []
  runInContext(
    script,
    createContext({
      document: {
        getElementById: (id: string) => byId(id) ?? null,
        createElement: (name: string) => new Element(name)
      },
      location: { protocol: "http:", origin: "http://node:1", hash: "" },
      fetch: async () => answer
    })
  )
  await new Promise((shown) => setImmediate(shown))
  return { root, byId, text: (id: string) => byId(id)?.textContent ?? "" }
}
