import { readdirSync, readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { ComputeConfig, decodeComputeSpec } from "../../src/domain/ComputeConfig.ts"
import { appendLine, type ConfInput, externalConnectionsLine, render } from "../../src/domain/PostgresConf.ts"

/** One start of Neon's compute_ctl: the document it was given and the lines of the files that it wrote. */
const Recording = Schema.fromJsonString(
  Schema.Struct({
    arguments: Schema.Array(Schema.String),
    document: ComputeConfig,
    files: Schema.Record(Schema.String, Schema.Array(Schema.String))
  })
)

/** What changed from run to run has names in braces. */
const values: Readonly<Record<string, string>> = {
  "{TENANT}": "6f0d1c9a52b7e4830a1e5d7c94b2f860",
  "{TIMELINE}": "c41e7b0856d92fa3e8b6041d7f35a92c",
  "{PORT}": "55432",
  "{INTERNAL}": "3081",
  '"{KEY}"': '{"kty":"OKP","crv":"Ed25519","x":"EbPwYztwhaB5XJR_6QZgc6fmnkRHf5MABEobt-7SjFQ"}'
}
const folder = new URL("../golden/conf/", import.meta.url)
const recording = (name: string): typeof Recording.Type => {
  let text = readFileSync(new URL(name, folder), "utf8")
  for (const [placeholder, value] of Object.entries(values)) text = text.replaceAll(placeholder, value)
  return Schema.decodeSync(Recording)(text)
}
const argument = (args: ReadonlyArray<string>, name: string): string | undefined => {
  const at = args.indexOf(name)
  return at < 0 ? undefined : args[at + 1]
}

const minimal = {
  format_version: 1,
  suspend_timeout_seconds: 0,
  cluster: { roles: [], databases: [] }
}
const lines = (spec: object, input: Partial<ConfInput> = {}): ReadonlyArray<string> =>
  Result.getOrThrow(
    render({
      spec: Result.getOrThrow(decodeComputeSpec({ ...minimal, ...spec })),
      privilegedRoleName: "neon_superuser",
      internalHttpPort: 3081,
      tls: false,
      overcommitIsStrict: false,
      platform: "linux",
      ...input
    })
  ).split("\n")
const between = (all: ReadonlyArray<string>, first: string, last: string): ReadonlyArray<string> =>
  all.slice(all.indexOf(first), all.indexOf(last) + 1)

describe("PostgresConf", () => {
  it.each(readdirSync(folder).filter((name) => name.endsWith(".json")))("%s is written as Neon writes it", (name) => {
    const { arguments: args, document, files } = recording(name)
    assert.isOk(document.spec)
    const text = render({
      spec: document.spec,
      privilegedRoleName: argument(args, "--privileged-role-name") ?? "neon_superuser",
      internalHttpPort: Number(values["{INTERNAL}"]),
      tls: false,
      overcommitIsStrict: false,
      lakebase: argument(args, "--lakebase-mode") === "true" ? { port: Number(values["{PORT}"]) } : undefined,
      platform: "linux"
    })
    assert.deepStrictEqual(Result.getOrThrow(text).split("\n"), [...(files["postgresql.conf"] ?? []), ""])
  })

  it.each(readdirSync(folder).filter((name) => name.endsWith(".json")))("%s ends pg_hba.conf with our line", (name) => {
    const hba = recording(name).files["pg_hba.conf"] ?? []
    assert.strictEqual(hba.at(-1), externalConnectionsLine)
    const before = hba.slice(0, hba.lastIndexOf("")).join("\n")
    if (hba.at(-2) === "") assert.strictEqual(appendLine(`${before}\n`, externalConnectionsLine), hba.join("\n"))
  })

  it("TLS and strict overcommit have their lines in their places", () => {
    const all = lines({}, { tls: true, overcommitIsStrict: true })
    assert.deepStrictEqual(between(all, "ssl = on", "lc_messages='C.UTF-8'"), [
      "ssl = on",
      "ssl_cert_file = 'server.crt'",
      "ssl_key_file = 'server.key'",
      "lc_messages='C.UTF-8'"
    ])
    assert.deepStrictEqual(between(all, "neon.compute_mode=primary", "neon.privileged_role_name='neon_superuser'"), [
      "neon.compute_mode=primary",
      "dynamic_shared_memory_type = mmap",
      "neon.privileged_role_name='neon_superuser'"
    ])
  })

  it("macOS has the C locale and no mmap", () => {
    const all = lines({}, { platform: "darwin", overcommitIsStrict: true })
    assert.include(all, "lc_messages='C'")
    assert.notInclude(all, "dynamic_shared_memory_type = mmap")
  })

  it("a logs host sends the log to syslog too, and a generation of 0 is written", () => {
    const all = lines({ logs_export_host: "a:1", safekeepers_generation: 0, safekeeper_connstrings: ["a:1", "b:2"] })
    assert.include(all, "log_destination='stderr,syslog'")
    assert.include(all, "neon.safekeepers='g#0:a:1,b:2'")
  })

  it("a shard without an address for libpq takes the setting away", () => {
    const all = lines({
      pageserver_connection_info: {
        shard_count: 0,
        shards: { "0000": { pageservers: [{ grpc_url: "grpc://a" }] } },
        prefer_protocol: "grpc"
      }
    })
    assert.deepStrictEqual(all.slice(0, 3), ["# Neon storage settings", "", "# no neon.pageserver_connstring"])
  })

  it("a hole in the map of shards is an error that names the shard", () => {
    const spec = Result.getOrThrow(
      decodeComputeSpec({
        ...minimal,
        pageserver_connection_info: { shard_count: 2, stripe_size: 5, shards: { "0002": { pageservers: [{}] } } }
      })
    )
    const input = { spec, privilegedRoleName: "r", internalHttpPort: 1, tls: false, overcommitIsStrict: false }
    const result = render({ ...input, platform: "linux" })
    assert.strictEqual(
      Result.isFailure(result) && result.failure.message,
      "shard 0102 missing from pageserver_connection_info shard map"
    )
  })

  const compliance = (parameters: string, log: string, preload: string) => [
    "# Managed by compute_ctl compliance audit settings: begin",
    `pgaudit.log_parameter=${parameters}`,
    `pgaudit.log='${log}'`,
    "pgaudit.log_catalog=off",
    "pgaudit.log_rotation_age=5",
    `shared_preload_libraries='${preload}'`,
    "# Managed by compute_ctl compliance audit settings: end"
  ]
  it.each([
    ["Extended", undefined, compliance("off", "all, -misc", "neon,pgaudit,pgauditlogtofile")],
    ["Hipaa", "neon", compliance("off", "all, -misc", "neon,pgaudit,pgauditlogtofile")],
    ["Full", undefined, compliance("on", "all", "neon,pgaudit,pgauditlogtofile")],
    ["Full", "a,pgaudit", compliance("on", "all", "a,pgaudit,pgauditlogtofile")],
    ["Full", "pgauditlogtofile", compliance("on", "all", "pgauditlogtofile")]
  ])("audit level %s with the libraries %j", (audit_log_level, libraries, expected) => {
    const settings =
      libraries === undefined ? [] : [{ name: "shared_preload_libraries", value: libraries, vartype: "string" }]
    const all = lines({ audit_log_level, cluster: { ...minimal.cluster, settings } })
    assert.deepStrictEqual(between(all, expected[0] ?? "", expected.at(-1) ?? ""), expected)
  })

  it("quotes and backslashes of a string setting are doubled, other values stand as they are", () => {
    const settings = [
      { name: "test.escaping", value: "here's a backslash \\ and a quote ' x", vartype: "string" },
      { name: "test.raw", value: "it's", vartype: "String" }
    ]
    const all = lines({ cluster: { ...minimal.cluster, settings } })
    assert.include(all, "test.escaping = 'here''s a backslash \\\\ and a quote '' x'")
    assert.include(all, "test.raw = it's")
  })
})

describe("appendLine", () => {
  it.each([
    ["", "x", "x"],
    ["a", "x", "a\nx"],
    ["a\n", "x", "a\n\nx"],
    ["a\nx", "x", undefined],
    ["a\r\nx\r\n", "x", undefined],
    ["a x\n", "x", "a x\n\nx"]
  ])("%j and %j make %j", (content, line, expected) => {
    assert.strictEqual(appendLine(content, line), expected)
  })
})
