/** Recordings of what the original answered, and how ours is compared with them. */
import { readFileSync } from "node:fs"
import { isDeepStrictEqual } from "node:util"
import * as Schema from "effect/Schema"
import * as ApiTables from "../../build/apiTables.ts"

const Recording = Schema.Struct({
  request: Schema.String,
  server: Schema.Literals(["external", "internal"]),
  status: Schema.Int,
  headers: Schema.Record(Schema.String, Schema.String),
  body: Schema.Unknown,
  note: Schema.optionalKey(Schema.String),
  sent: Schema.optionalKey(Schema.String),
  "sent content-type": Schema.optionalKey(Schema.NullOr(Schema.String))
})
export type Recording = typeof Recording.Type

const File = Schema.Array(Schema.Union([Recording, Schema.Struct({ state: Schema.String })]))

export type State = "empty" | "init" | "failed" | "running"

/** Recordings of a file; where it has several parts, those of one. */
export const recordings = (file: string, part?: State): ReadonlyArray<Recording> => {
  const text = readFileSync(new URL(`../golden/http/${file}.json`, import.meta.url), "utf8")
  let current: string | undefined
  const found: Array<Recording> = []
  for (const row of Schema.decodeUnknownSync(Schema.fromJsonString(File))(text)) {
    if ("state" in row) current = row.state.split(" ", 1)[0]
    else if (current === part) found.push(row)
  }
  return found
}

export const title = ({ note, request }: Recording): string => `${request} ${note ?? ""}`.trim()

/** What it says is in Postgres, or changes something there. */
export const needsPostgres = ({ request, status }: Recording): boolean =>
  /^GET \/(?:dbs_and_roles|database_schema\?|insights|hadron_liveness_probe)/u.test(request) ||
  (/^POST \/(?:check_writability|extensions|grants)$/u.test(request) && [200, 201, 500].includes(status))

interface Difference {
  readonly request: RegExp
  readonly note?: string
  readonly states?: ReadonlyArray<State>
  /** Of ours. */
  readonly statuses: ReadonlyArray<number>
}

const alive: ReadonlyArray<State> = ["init", "failed"]

/** Where ours says something else, by decision. */
const differences: ReadonlyArray<Difference> = [
  // No Postgres is 503, no pg_dump is 500 with other words.
  { request: /^GET \/database_schema\?/u, states: ["empty", ...alive], statuses: [500, 503] },
  { request: /^GET \/dbs_and_roles$/u, states: alive, statuses: [503] },
  // The original had no program to ask with; ours asks Postgres itself.
  { request: /^GET \/hadron_liveness_probe$/u, states: ["empty", ...alive], statuses: [503] },
  { request: /^GET \/hadron_liveness_probe$/u, states: ["running"], statuses: [200] },
  // Accepted in every status.
  { request: /^POST \/terminate$/u, states: alive, statuses: [200] },
  // An object, as the document of the original promises.
  { request: /^GET \/insights$/u, states: ["running"], statuses: [200] },
  // Looked at as a whole: there a missing member is found before the bytes behind it.
  { request: /^POST \/grants$/u, note: "not UTF-8", statuses: [400] },
  // Nothing is begun without the functions of the neon extension.
  { request: /^POST \/lfc\//u, statuses: [202, 412] },
  // Names and roles of a newer Postgres; the image of 15 that was recorded is not the one of the tests.
  { request: /^GET \/dbs_and_roles$/u, states: ["running"], statuses: [200] },
  // The pg_dump of this machine may be too old, or missing: databaseSchema.test.ts brings one.
  { request: /^GET \/database_schema\?database=postgres$/u, states: ["running"], statuses: [200, 500] }
]

const unfinished = new Set(
  [...ApiTables.external, ...ApiTables.internal]
    .filter((route) => route.unfinished)
    .map(({ method, path }) => `${method} ${path}`)
)

/** Our own words behind these, with the place of the problem. */
const ownWords = /^failed to (?:parse the request body as json|deserialize [a-z ]+): /iu

const isError = Schema.is(Schema.Struct({ error: Schema.String }))

type Body =
  | { readonly _tag: "Same"; readonly value: unknown }
  /** Other values under the same names. */
  | { readonly _tag: "Names"; readonly names: ReadonlyArray<string> }
  | { readonly _tag: "Error"; readonly begin: string }
  | { readonly _tag: "None" }
  | { readonly _tag: "Any" }

const bodyOf = ({ body, request, status }: Recording): Body => {
  if (request.startsWith("HEAD ") || (body === "" && status < 400)) return { _tag: "None" }
  // Nothing there, or a text; the JSON error body here.
  if (status >= 400) {
    const error = isError(body) ? body.error : String(body)
    const begin = status === 500 ? /^[^:]+/u.exec(error)?.[0] : ownWords.exec(error)?.[0]
    if (begin !== undefined || error === "") return { _tag: "Error", begin: begin?.toLowerCase() ?? "" }
    return { _tag: "Same", value: { error } }
  }
  return /^GET \/(?:status|metrics\.json)$/u.test(request)
    ? { _tag: "Names", names: Object.keys(Object(body)) }
    : { _tag: "Same", value: body }
}

/** Headers of one answer only, or of a server; and the type of what was no JSON there. */
const ignored = ["x-request-id", "content-length", "transfer-encoding"]

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly text: string
  readonly json: unknown
}

/** Whether a header of the recording is there, with its value where that is a promise. */
const hasHeader = (name: string, value: string, { headers }: Answer): boolean => {
  const ours = headers[name]
  if (name === "content-type" && value.startsWith("text/plain; charset")) return ours === "application/json"
  return ignored.includes(name) ? ours !== undefined || name !== "x-request-id" : ours === value
}

const wrongBody = (body: Body, { json, text }: Answer): string | undefined => {
  switch (body._tag) {
    case "Same":
      return isDeepStrictEqual(json, body.value) ? undefined : `not ${JSON.stringify(body.value)}`
    case "Names":
      return isDeepStrictEqual(Object.keys(Object(json)), body.names) ? undefined : `not ${body.names.join(", ")}`
    case "Error":
      return isError(json) && json.error.toLowerCase().startsWith(body.begin) ? undefined : `no error ${body.begin}`
    case "None":
      return text === "" ? undefined : "not nothing"
    case "Any":
      return undefined
  }
}

/** What is not as recorded, or as a decision wants it; undefined where all is. */
export const mismatch = (recording: Recording, state: State, answer: Answer): string | undefined => {
  const { headers, note, request, status } = recording
  const difference = differences.find(
    (one) => one.request.test(request) && (one.states ?? [state]).includes(state) && (one.note ?? note) === note
  )
  const isUnfinished = unfinished.has(request.split("?", 1)[0] ?? "")
  const statuses = [...(difference?.statuses ?? [status]), ...(isUnfinished ? [501] : [])]
  const said = `${title(recording)}: ${answer.status} ${answer.text.slice(0, 300)}\n  `
  if (!statuses.includes(answer.status)) return `${said}not ${statuses.join(" or ")}`
  if (answer.status !== status) return undefined
  for (const [name, value] of Object.entries(headers)) {
    if (!hasHeader(name, value, answer)) return `${said}${name} is ${String(answer.headers[name])}, not ${value}`
  }
  const wrong = wrongBody(difference === undefined ? bodyOf(recording) : { _tag: "Any" }, answer)
  return wrong === undefined ? undefined : `${said}${wrong}`
}
