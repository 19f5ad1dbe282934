/**
 * `openapi.json`: the routes of both servers as one OpenAPI document, from the definitions that serve them.
 *
 *     scripts/node build/openapi.ts [--check]
 *
 * Writes the file, or with `--check` says whether it is up to date. No path exists on both servers: those of the internal
 * one carry a `servers` member of their own, which generators of clients honour.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { isDeepStrictEqual } from "node:util"
import * as OpenApi from "effect/http-api/OpenApi"
import { ExternalApi } from "../src/http/api/ExternalApi.ts"
import { InternalApi } from "../src/http/api/InternalApi.ts"
import { packageVersion, root } from "./inputs.ts"

export const file = join(root, "openapi.json")

/** What brings the file up to date. */
export const command = "npm run build"

const description = `\
Two servers of one process. The external one is for control planes, metrics scrapers and operators, and wants a token on
most routes: a JWT, signed by one of the keys of the configuration (EdDSA or RS256), with this \`compute_id\`, or with
scope \`compute_ctl:admin\` and audience \`compute\`. The internal one is for Postgres and its neighbours on the same
machine and wants none.

Every GET route answers HEAD too. Unknown members of bodies and unknown parameters are ignored. Every answer carries
\`x-request-id\`: that of the request, or a new one. Every answer with a status of 400 or above is
\`{"error": "…"}\`, also where no route is met: 404, 405 with \`allow\`, 408, 431.`

const servers = {
  external: { url: "http://localhost:3080", description: "External server, `--external-http-port`" },
  internal: { url: "http://localhost:3081", description: "Internal server, `--internal-http-port`; loopback only" }
}

/** Beyond what a route declares: broken requests, defects, the end of the server. */
const anyError = {
  description: "Whatever else went wrong; 503: the server is shutting down",
  content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } }
}

const errorSchema = { type: "object", properties: { error: { type: "string" } }, required: ["error"] }

/** Every object and every member of a JSON value, the inner ones first; undefined drops a member. */
const rewrite = (value: unknown, change: (key: string, value: unknown) => unknown): unknown => {
  if (Array.isArray(value)) return value.map((item) => rewrite(item, change))
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .map(([key, member]) => [key, change(key, rewrite(member, change))] as const)
      .filter(([, member]) => member !== undefined)
  )
}

/** Members that say nothing to others, or what is not so: unknown members are accepted. */
const plain = (key: string, value: unknown): unknown => {
  if (key === "x-effect-stream" || (key === "additionalProperties" && value === false)) return undefined
  return key === "description" && value === "<No Content>" ? "Done; no body" : value
}

type Schemas = Readonly<Record<string, unknown>>

/** Names that the generator has numbered, although the schema is the same: each with its first name. */
const numbered = (schemas: Schemas): ReadonlyMap<string, string> => {
  const same = new Map<string, string>()
  for (const [name, schema] of Object.entries(schemas)) {
    const [, first] = /^(.+)_\d+$/u.exec(name) ?? []
    if (first !== undefined && isDeepStrictEqual(schemas[first], schema)) same.set(name, first)
  }
  return same
}

const merged = (documents: ReadonlyArray<Schemas>): Schemas => {
  const all: Record<string, unknown> = { Error: errorSchema }
  for (const [name, schema] of documents.flatMap((schemas) => Object.entries(schemas))) {
    if (name in all && !isDeepStrictEqual(all[name], schema)) throw new Error(`two schemas are called ${name}`)
    all[name] = schema
  }
  return all
}

/** Paths of one server, with the answer that every operation may give. */
const pathsOf = ({ paths }: OpenApi.OpenAPISpec, more: object) =>
  Object.entries(paths).map(([path, item]) => {
    const operations = Object.entries(item).map(([method, operation]) => [
      method,
      { ...operation, responses: { default: anyError, ...("responses" in operation ? operation.responses : {}) } }
    ])
    return [path, { ...more, ...Object.fromEntries(operations) }] as const
  })

const build = () => {
  const external = OpenApi.fromApi(ExternalApi)
  const internal = OpenApi.fromApi(InternalApi)
  const schemas = merged([external, internal].map(({ components }) => components.schemas))
  const renamed = numbered(schemas)
  const document = {
    openapi: external.openapi,
    info: {
      title: "compute_ctl",
      version: packageVersion(),
      description,
      license: { name: "Apache-2.0", identifier: "Apache-2.0" }
    },
    servers: [servers.external],
    tags: [
      ...external.tags.map((tag) => ({ ...tag, description: "External server" })),
      ...internal.tags.map((tag) => ({ ...tag, description: "Internal server" }))
    ],
    paths: Object.fromEntries([...pathsOf(external, {}), ...pathsOf(internal, { servers: [servers.internal] })]),
    components: {
      schemas: Object.fromEntries(
        Object.entries(schemas)
          .filter(([name]) => !renamed.has(name))
          .sort(([a], [b]) => (a < b ? -1 : 1))
      ),
      securitySchemes: { bearer: { type: "http", scheme: "bearer", bearerFormat: "JWT" } }
    }
  }
  const prefix = "#/components/schemas/"
  return rewrite(document, (key, value) => {
    if (key !== "$ref" || typeof value !== "string") return plain(key, value)
    const name = value.slice(prefix.length)
    return `${prefix}${renamed.get(name) ?? name}`
  })
}

/** The text of the file. */
export const text = (): string => `${JSON.stringify(build(), undefined, 2)}\n`

const current = (): string | undefined => {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return undefined
  }
}

/** Writes the file where it is not up to date. */
export const update = (): void => {
  const fresh = text()
  if (fresh !== current()) writeFileSync(file, fresh)
}

/** Undefined: the file says what the definitions say. */
export const problem = (): string | undefined =>
  text() === current() ? undefined : `openapi.json is not what the definitions in src/http/api say: ${command}`

if (import.meta.main) {
  if (process.argv[2] === "--check") {
    const found = problem()
    if (found !== undefined) {
      process.stderr.write(`${found}\n`)
      process.exitCode = 1
    }
  } else update()
}
