/**
 * Compares an answer with openapi.json: status, content type, body, request id.
 *
 * Stricter than the document: a member that it does not name is a mistake of ours, although clients have to bear it. What
 * no route answers (an unknown path, a broken request, the end of the server) has the JSON error body.
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js"
import * as Schema from "effect/Schema"
import { root } from "../../build/inputs.ts"
import type { Exchange, Server } from "./exchanges.ts"

const Answer = Schema.Struct({
  content: Schema.optionalKey(Schema.Record(Schema.String, Schema.Struct({ schema: Schema.Unknown })))
})

const Operation = Schema.Struct({ responses: Schema.Record(Schema.String, Answer) })
type Operation = typeof Operation.Type

const Document = Schema.Struct({
  paths: Schema.Record(Schema.String, Schema.Record(Schema.String, Schema.Unknown)),
  components: Schema.Struct({ schemas: Schema.Record(Schema.String, Schema.Unknown) })
})

/** The same schema, closed: members that an object does not name are refused. */
const closed = (schema: unknown): unknown => {
  if (Array.isArray(schema)) return schema.map(closed)
  if (typeof schema !== "object" || schema === null) return schema
  const inner = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, closed(value)]))
  return "properties" in schema && !("additionalProperties" in schema)
    ? { ...inner, additionalProperties: false }
    : inner
}

interface Route {
  readonly server: Server
  readonly path: RegExp
  /** By method in lower case. */
  readonly operations: Readonly<Record<string, Operation>>
}

const methods = ["get", "post", "put", "patch", "delete"]

const pathPattern = (path: string): RegExp =>
  new RegExp(`^${path.replaceAll(/[.*+?^$()|[\]\\]/gu, "\\$&").replaceAll(/\{[^}]*\}/gu, "(?:.+)")}$`, "u")

const load = () => {
  const text = readFileSync(join(root, "openapi.json"), "utf8")
  const { components, paths } = Schema.decodeUnknownSync(Schema.fromJsonString(Document))(text)
  const routes = Object.entries(paths).map(([path, item]): Route => {
    const operations = Object.entries(item).filter(([method]) => methods.includes(method))
    return {
      server: "servers" in item ? "internal" : "external",
      path: pathPattern(path),
      operations: Object.fromEntries(
        operations.map(([method, operation]) => [method, Schema.decodeUnknownSync(Operation)(operation)])
      )
    }
  })
  const ajv = new Ajv2020({ allErrors: true, strict: false, validateFormats: false })
  ajv.addSchema({ $id: "document", components: { schemas: closed(components.schemas) } })
  const compiled = new Map<unknown, ValidateFunction>()
  const validator = (schema: object): ValidateFunction => {
    const known = compiled.get(schema)
    if (known !== undefined) return known
    const text = JSON.stringify(closed(schema)).replaceAll('"#/components/', '"document#/components/')
    const made = ajv.compile(JSON.parse(text))
    compiled.set(schema, made)
    return made
  }
  return {
    routes,
    validator,
    explain: (errors: ValidateFunction["errors"]) => ajv.errorsText(errors ?? [], { dataVar: "body" })
  }
}

const { explain, routes, validator } = load()

const isBinary = (schema: unknown): boolean =>
  typeof schema === "object" && schema !== null && "format" in schema && schema.format === "binary"

const parsed = (text: string): { readonly value: unknown } | undefined => {
  try {
    return { value: JSON.parse(text) }
  } catch {
    return undefined
  }
}

const isErrorBody = Schema.is(Schema.Struct({ error: Schema.String }))

/** The JSON error body, and nothing beside it. */
const notAnError = ({ headers, text, what }: Exchange): string | undefined => {
  if (headers["content-type"] !== "application/json") return `content type ${headers["content-type"]} of an error`
  if (what.startsWith("HEAD ")) return undefined
  const body = parsed(text)?.value
  return isErrorBody(body) && Object.keys(body).length === 1 ? undefined : "the body is not the JSON error body alone"
}

/** What the servers say in the place of any route, with its status. */
const generalErrors: ReadonlyMap<string, number> = new Map([
  ["shutting down", 503],
  ["request timed out", 408],
  ["request header fields too large", 431],
  ["malformed request", 400],
  ["chunk extensions too large", 413]
])

const isGeneral = ({ status, text }: Exchange): boolean => {
  const body = parsed(text)?.value
  return isErrorBody(body) && generalErrors.get(body.error) === status
}

const isReadable = (path: string): boolean => {
  try {
    decodeURIComponent(path)
    return true
  } catch {
    return false
  }
}

/** There, or not, as the process was started. */
const optionalPaths: ReadonlySet<string> = new Set(["/failpoints"])

/** Answer to a request that no route takes. */
const unrouted = (exchange: Exchange, path: string, route: Route | undefined): string | undefined => {
  const { headers, status } = exchange
  const expected = [
    ...(route === undefined || optionalPaths.has(path) ? [404] : []),
    ...(route === undefined ? [] : [405]),
    ...(route === undefined || isReadable(path) ? [] : [400])
  ]
  if (!expected.includes(status)) return `status ${status} where no route is, not ${expected.join(" or ")}`
  if (status === 405 && headers["allow"] === undefined) return "405 that does not say what is allowed"
  return notAnError(exchange)
}

const wrongBody = ({ text, what }: Exchange, content: (typeof Answer.Type)["content"]): string | undefined => {
  if (what.startsWith("HEAD ")) return text === "" ? undefined : "a body for HEAD"
  if (content === undefined) return text === "" ? undefined : "a body where none is declared"
  const [[type, { schema }] = ["", { schema: undefined }]] = Object.entries(content)
  if (type !== "application/json" || isBinary(schema) || typeof schema !== "object" || schema === null) return undefined
  const body = parsed(text)
  if (body === undefined) return "the body is no JSON"
  const validate = validator(schema)
  return validate(body.value) ? undefined : explain(validate.errors)
}

/** The one answer of which OpenAPI cannot say that its body may be missing: of a node in lakebase mode that was empty. */
const isEmptyTermination = ({ headers, status, text, what }: Exchange): boolean =>
  what.startsWith("POST /terminate") && status === 200 && text === "" && headers["content-type"] === undefined

const wrongAnswer = (exchange: Exchange, operation: Operation): string | undefined => {
  const { headers, status } = exchange
  // The common one is for what no route answers.
  const others = Object.keys(operation.responses["default"]?.content ?? {})
  const answer =
    operation.responses[String(status)] ?? (others.includes("*/*") ? operation.responses["default"] : undefined)
  if (answer === undefined) return `status ${status} is not declared`
  if (isEmptyTermination(exchange)) return undefined
  const types = Object.keys(answer.content ?? {})
  const type = headers["content-type"]
  if (type === undefined ? types.length > 0 : !types.some((declared) => declared === type || declared === "*/*")) {
    return `content type ${type}, not ${types.join(" or ") || "none"}`
  }
  return wrongBody(exchange, answer.content)
}

/** What is wrong with an answer; undefined where nothing is. */
export const problem = (exchange: Exchange): string | undefined => {
  if (exchange.headers["x-request-id"] === undefined) return "no request id"
  if (isGeneral(exchange)) return notAnError(exchange)
  const [method = "", target = ""] = exchange.what.split(" ", 2)
  const path = target.split("?", 1)[0] ?? ""
  const route = routes.find((one) => one.server === exchange.server && one.path.test(path))
  const operation = route?.operations[method === "HEAD" ? "get" : method.toLowerCase()]
  return operation === undefined ? unrouted(exchange, path, route) : wrongAnswer(exchange, operation)
}

/** One line for each wrong answer. */
export const problems = (exchanges: ReadonlyArray<Exchange>): ReadonlyArray<string> =>
  exchanges.flatMap((exchange) => {
    const found = problem(exchange)
    const { server, status, text, what } = exchange
    return found === undefined ? [] : [`${server} ${what}: ${found}\n  ${status} ${text.slice(0, 500)}`]
  })
