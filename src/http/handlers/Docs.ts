/**
 * The OpenAPI document and the page that shows it: files, read when somebody first asks for them.
 *
 * `npm run build` puts both beside the bundle.
 */
import { hash } from "node:crypto"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import { describeLine } from "../../domain/describe.ts"
import * as E from "../api/Errors.ts"
import { ExternalApi } from "../api/ExternalApi.ts"

/** Only the bundle has it. */
declare const COMPUTE_CTL_VERSION: string | undefined

const inBundle = typeof COMPUTE_CTL_VERSION === "string"

const read = (bundled: string, source: string) =>
  Effect.tryPromise({
    try: () => readFile(join(import.meta.dirname, inBundle ? bundled : source)),
    catch: (cause) => new E.InternalError({ message: `${bundled} cannot be read: ${describeLine(cause)}` })
  })

/** Done once; a failure is tried again. */
const once = <A, Err>(effect: Effect.Effect<A, Err>): Effect.Effect<A, Err> => {
  let known: A | undefined
  return Effect.suspend(() =>
    known === undefined
      ? Effect.tap(effect, (value) =>
          Effect.sync(() => {
            known = value
          })
        )
      : Effect.succeed(known)
  )
}

/** What stands between the only two tags of that name, as a source of the Content-Security-Policy. */
const source = (html: string, tag: string): string => {
  const text = new RegExp(`<${tag}>(.*?)</${tag}>`, "su").exec(html)?.[1] ?? ""
  return `'sha256-${hash("sha256", text, "base64")}'`
}

const policy = (html: string): string =>
  [
    "default-src 'none'",
    `script-src ${source(html, "script")}`,
    `style-src ${source(html, "style")}`,
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'"
  ].join("; ")

const document = once(
  Effect.map(read("openapi.json", "../../../openapi.json"), (bytes) =>
    HttpServerResponse.uint8Array(bytes, { contentType: "application/json" })
  )
)

const page = once(
  Effect.map(read("docs.html", "../docs/docs.html"), (bytes) =>
    HttpServerResponse.uint8Array(bytes, {
      contentType: "text/html; charset=utf-8",
      headers: {
        "content-security-policy": policy(bytes.toString()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer"
      }
    })
  )
)

export const layerDocs = HttpApiBuilder.group(ExternalApi, "docs", (handlers) =>
  handlers.handle("openapi", () => document).handle("page", () => page)
)
