import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { type PostgresTarget, parse, requireUrl } from "../../src/domain/ConnString.ts"
import { describeLine } from "../../src/domain/describe.ts"

const defaults: PostgresTarget = {
  host: "localhost",
  port: 5432,
  user: "postgres",
  database: undefined,
  password: undefined,
  options: undefined
}
const message = (result: ReturnType<typeof parse>): string =>
  Result.isFailure(result) ? describeLine(result.failure) : "accepted"

describe("ConnString", () => {
  it.each<[string, Partial<PostgresTarget>]>([
    ["postgresql://", {}],
    ["postgres://cloud_admin@localhost:55432/postgres", { user: "cloud_admin", port: 55432, database: "postgres" }],
    ["postgresql://no_user@ps-1.example:6400", { user: "no_user", host: "ps-1.example", port: 6400 }],
    ["postgresql://u:p%40ss%3Aw%2Frd@h/d", { user: "u", password: "p@ss:w/rd", host: "h", database: "d" }],
    ["postgresql://u:p@ss:word@h", { user: "u", password: "p@ss:word", host: "h" }],
    ["postgresql://u:@h", { user: "u", host: "h" }],
    ["postgresql://[::1]:6400/d", { host: "::1", port: 6400, database: "d" }],
    ["postgresql://[fe80::1%25eth0]", { host: "fe80::1%eth0" }],
    ["postgresql://a:1,b:2/d", { host: "a", port: 1, database: "d" }],
    ["postgresql://%2Fvar%2Frun%2Fpg:6000/d", { host: "/var/run/pg", port: 6000, database: "d" }],
    ["postgresql:///d?host=/tmp&port=6000", { host: "/tmp", port: 6000, database: "d" }],
    ["postgresql:///?user=u&password=a%20b&dbname=d", { user: "u", password: "a b", database: "d" }],
    ["postgresql://h?host=other&port=1", { host: "other", port: 1 }],
    ["postgresql://h?application_name=x&sslmode=disable", { host: "h" }],
    [
      "postgresql://h/d?options=-c%20search_path%3D%27%27%20-c%20a%3D1%2B1",
      { host: "h", database: "d", options: "-c search_path='' -c a=1+1" }
    ],
    ["", {}],
    ["host=ps-a port=6400", { host: "ps-a", port: 6400 }],
    [" host = /tmp  user=u\tdbname=d\n", { host: "/tmp", user: "u", database: "d" }],
    ["host=a,b port=1,2", { host: "a", port: 1 }],
    ["host=name hostaddr=10.0.0.1", { host: "10.0.0.1" }],
    [String.raw`password='it\'s a \\ "x"' user=u`, { password: `it's a \\ "x"`, user: "u" }],
    [String.raw`password=a\ b\'c user=u`, { password: "a b'c", user: "u" }],
    ["password='' user=u", { user: "u" }],
    ["options='-c a=b -c c=d' sslmode=disable", { options: "-c a=b -c c=d" }]
  ])("%j", (text, expected) => {
    assert.deepStrictEqual(Result.getOrThrow(parse(text)), { ...defaults, ...expected })
  })

  it.each([
    ["postgresql://h:0", "invalid port in the connection string, expected 1 to 65535"],
    ["postgresql://h:65536", "invalid port in the connection string, expected 1 to 65535"],
    ["postgresql://hunter2:hunter2", "invalid port in the connection string, expected 1 to 65535"],
    ["postgresql://u:hunter2/x@h", "invalid port in the connection string, expected 1 to 65535"],
    ["postgresql://u:hunter2%@h", "invalid percent-encoding in the connection string"],
    ["postgresql://u:hunter2%00@h", "NUL in the connection string"],
    ["postgresql://::1", "invalid host in the connection string"],
    ["postgresql://h?hunter2", "missing = in a parameter of the connection URL"],
    ["hunter2", "expected key=value at character 1 of the connection string"],
    ["user=u password=my hunter2", "expected key=value at character 19 of the connection string"],
    ["password='hunter2''s'", "expected key=value at character 1 of the connection string"],
    ["password='hunter2", "expected key=value at character 1 of the connection string"],
    ["port=hunter2", "invalid port in the connection string, expected 1 to 65535"]
  ])("%j is refused without repeating it", (text, expected) => {
    assert.strictEqual(message(parse(text)), expected)
  })

  it("a connection string that must be a URL is refused in another form", () => {
    assert.strictEqual(Result.getOrThrow(requireUrl("postgres://u@h:1/d")).port, 1)
    assert.strictEqual(
      message(requireUrl("host=a password=hunter2")),
      "cannot parse connstr as a URL: expected postgresql:// or postgres:// at the start"
    )
    assert.strictEqual(
      message(requireUrl("postgres://u:hunter2/@h")),
      "cannot parse connstr as a URL: invalid port in the connection string, expected 1 to 65535"
    )
  })

  const Text = Arbitrary.schema(Schema.String.check(Schema.isPattern(/^[a-z0-9 '"\\/?#@:%&=,+é]{1,12}$/u)))

  it.prop("whatever stands in a password, both forms carry it", [Text, Text], ([password, user]) => {
    const url = parse(`postgresql://${encodeURIComponent(user)}:${encodeURIComponent(password)}@h/d`)
    const quote = (text: string) => `'${text.replaceAll(/['\\]/gu, "\\$&")}'`
    const words = parse(`host=h dbname=d user=${quote(user)} password=${quote(password)}`)
    const expected = { ...defaults, host: "h", database: "d", user, password }
    assert.deepStrictEqual(Result.getOrThrow(url), expected)
    assert.deepStrictEqual(Result.getOrThrow(words), expected)
  })
})
