/**
 * libpq connection strings: a URL (`postgresql://user:password@host:port/database?options=…`) or `key=value` words.
 *
 * Of several hosts the first counts. Members that we have no use for (`sslmode`, `application_name`, …) are skipped.
 * No message repeats a part of the text: what looks like a port may be a piece of a password.
 */
import * as Data from "effect/Data"
import * as Result from "effect/Result"

/** Where and as whom to connect. */
export interface PostgresTarget {
  /** Host name, address, or directory of a unix socket (begins with `/`). */
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string | undefined
  readonly password: string | undefined
  /** `-c name=value` words for the server. */
  readonly options: string | undefined
}

/** The superuser of the nodes of local mode, on this machine. */
export const localAdmin = (port: number): PostgresTarget => ({
  host: "127.0.0.1",
  port,
  user: "cloud_admin",
  database: "postgres",
  password: undefined,
  options: undefined
})

export class InvalidConnString extends Data.TaggedError("InvalidConnString")<{
  readonly message: string
  readonly cause?: unknown
}> {}

type Parsed<A> = Result.Result<A, InvalidConnString>

const invalid = (message: string): Result.Result<never, InvalidConnString> =>
  Result.fail(new InvalidConnString({ message }))

/** Members by their libpq name, as they stand in the text. */
type Members = ReadonlyMap<string, string>

const scheme = /^postgres(?:ql)?:\/\//u

const decodePercent = (text: string): Parsed<string> =>
  Result.try({
    try: () => decodeURIComponent(text),
    catch: () => new InvalidConnString({ message: "invalid percent-encoding in the connection string" })
  })

/** `host[:port]`, the host maybe an IPv6 address in brackets. Both are undefined where they are left out. */
const hostPattern = /^(\[[^[\]]+\]|[^:[\]]*)(?::([^:]*))?$/u

const readUrl = (text: string): Parsed<Members> =>
  Result.gen(function* () {
    const rest = text.replace(scheme, "")
    const question = rest.indexOf("?")
    const [location, query] = question < 0 ? [rest, ""] : [rest.slice(0, question), rest.slice(question + 1)]
    const slash = location.indexOf("/")
    const [authority, path] = slash < 0 ? [location, ""] : [location.slice(0, slash), location.slice(slash + 1)]
    const at = authority.lastIndexOf("@")
    const credentials = at < 0 ? "" : authority.slice(0, at)
    const colon = credentials.indexOf(":")
    const address = hostPattern.exec(authority.slice(at + 1).split(",", 1)[0] ?? "")
    if (address === null) return yield* invalid("invalid host in the connection string")

    const members = new Map<string, string>()
    const add = (name: string, value: string | undefined) =>
      value === undefined || value === ""
        ? Result.void
        : Result.map(decodePercent(value), (decoded) => {
            members.set(name, decoded)
          })
    yield* add("user", colon < 0 ? credentials : credentials.slice(0, colon))
    yield* add("password", colon < 0 ? undefined : credentials.slice(colon + 1))
    const [, host, port] = address
    yield* add("host", host?.replace(/^\[|\]$/gu, ""))
    yield* add("port", port)
    yield* add("dbname", path)
    for (const pair of query.split("&").filter((pair) => pair !== "")) {
      const equals = pair.indexOf("=")
      if (equals < 0) return yield* invalid("missing = in a parameter of the connection URL")
      yield* add(yield* decodePercent(pair.slice(0, equals)), pair.slice(equals + 1))
    }
    return members
  })

/** One `key = value` word; the value is bare or in single quotes, and a backslash takes the next character as it is. */
const word = /\s*([^\s=]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'(?=\s|$)|((?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*)?(?=\s|$))/suy

const readWords = (text: string): Parsed<Members> => {
  const members = new Map<string, string>()
  const end = text.trimEnd().length
  word.lastIndex = 0
  for (let at = 0; at < end; at = word.lastIndex) {
    const match = word.exec(text)
    if (match === null) return invalid(`expected key=value at character ${at + 1} of the connection string`)
    const [, name = "", quoted, bare = ""] = match
    const value = (quoted ?? bare).replace(/\\(.)/gsu, "$1")
    if (value !== "") members.set(name, value)
  }
  return Result.succeed(members)
}

const target = (members: Members): Parsed<PostgresTarget> => {
  if ([...members.values()].some((value) => value.includes("\0"))) return invalid("NUL in the connection string")
  const first = (name: string): string | undefined => members.get(name)?.split(",", 1)[0] || undefined
  const port = first("port") ?? "5432"
  if (!/^[0-9]{1,5}$/u.test(port) || Number(port) < 1 || Number(port) > 65535) {
    return invalid("invalid port in the connection string, expected 1 to 65535")
  }
  return Result.succeed({
    host: first("hostaddr") ?? first("host") ?? "localhost",
    port: Number(port),
    user: members.get("user") ?? "postgres",
    database: members.get("dbname"),
    password: members.get("password"),
    options: members.get("options")
  })
}

/** Takes a connection string apart. Defaults: host `localhost`, port 5432, user `postgres`. */
export const parse = (text: string): Result.Result<PostgresTarget, InvalidConnString> =>
  Result.flatMap(scheme.test(text) ? readUrl(text) : readWords(text), target)

/** The same for a text that must be a URL. */
export const requireUrl = (text: string): Result.Result<PostgresTarget, InvalidConnString> =>
  Result.mapError(
    scheme.test(text) ? parse(text) : invalid("expected postgresql:// or postgres:// at the start"),
    (cause) => new InvalidConnString({ message: "cannot parse connstr as a URL", cause })
  )
