/** postgresql.conf and pg_hba.conf as a start writes them, and what Postgres makes of them. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { makeBed } from "../support/bed.ts"
import { eventually } from "../support/compute.ts"
import { changeImage, readImage } from "../support/image.ts"

const externalLine = "host\tall\t\tall\t\tall\t\tmd5"

describe("configuration files", () => {
  it.live("S-017 lines of the spec's postgresql.conf take effect", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run({ conf: "log_min_messages=debug1" })
      expect(yield* node.sql("SELECT setting, source FROM pg_settings WHERE name = 'log_min_messages'")).toEqual([
        ["debug1", "configuration file"]
      ])
      yield* node.stop
    })
  )

  it.live("S-018 the locale is C.UTF-8", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run()
      const settings = yield* node.sql("SELECT setting FROM pg_settings WHERE name ~ '^lc_(mess|mone|nume|time)'")
      expect(settings).toEqual([["C.UTF-8"], ["C.UTF-8"], ["C.UTF-8"], ["C.UTF-8"]])
      const database =
        "SELECT datcollate, datctype, datlocprovider, datlocale FROM pg_database WHERE datname = 'postgres'"
      expect(yield* node.sql(database)).toEqual([["C.UTF-8", "C.UTF-8", "b", "C.UTF-8"]])
      yield* node.stop
    })
  )

  it.live("S-019 pg_hba.conf lets external connections in by one line, which is not repeated", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const sent = (yield* readImage(bed)).find(({ name }) => name === "pg_hba.conf")?.content.toString() ?? ""
      expect(sent).not.toContain(externalLine)
      const node = yield* bed.run()
      const text = yield* node.file("pg_hba.conf")
      expect(text).toBe(`${sent}\n${externalLine}`)
      yield* node.stop
      yield* changeImage(bed, { "pg_hba.conf": text })
      const again = yield* bed.run()
      expect(yield* again.file("pg_hba.conf")).toBe(text)
      expect(yield* again.sql("SELECT 1")).toEqual([["1"]])
      yield* again.stop
    })
  )

  it.live("S-020 S-022 settings are written by type and order, after the text of the spec, and win", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run({
        conf: "work_mem=1MB",
        settings: [
          { name: "fsync", value: "off", vartype: "bool" },
          { name: "wal_level", value: "logical", vartype: "enum" },
          { name: "max_connections", value: "50", vartype: "integer" },
          { name: "listen_addresses", value: "127.0.0.1", vartype: "string" },
          { name: "search.note", value: "it's", vartype: "string" },
          { name: "work_mem", value: "7MB", vartype: "string" }
        ]
      })
      const conf = yield* node.file("postgresql.conf")
      expect(conf).toContain(
        [
          "# Managed by compute_ctl: begin",
          "fsync = off",
          "wal_level = logical",
          "max_connections = 50",
          "listen_addresses = '127.0.0.1'",
          "search.note = 'it''s'",
          "work_mem = '7MB'",
          "# Managed by compute_ctl: end"
        ].join("\n")
      )
      const places = ["work_mem=1MB", "neon.tenant_id=", "# Managed by compute_ctl: begin"].map((text) =>
        conf.indexOf(text)
      )
      expect(places).toEqual(places.toSorted((a, b) => a - b))
      for (const [name, value] of [
        ["fsync", "off"],
        ["wal_level", "logical"],
        ["max_connections", "50"],
        ["listen_addresses", "127.0.0.1"],
        ["search.note", "it's"],
        ["work_mem", "7MB"]
      ]) {
        expect(yield* node.value(`SHOW ${name}`), name).toBe(value)
      }
      yield* node.stop
    })
  )

  it.live("S-021 a setting without value is its bare name, which Postgres refuses: the start fails and says so", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.start({
        settings: [
          { name: "search.present", value: "v", vartype: "string" },
          { name: "search.missed", value: null, vartype: "int" }
        ]
      })
      const { error } = yield* node.waitFor("failed")
      expect(yield* node.file("postgresql.conf")).toContain("search.present = 'v'\nsearch.missed\n# Managed")
      expect(error).toContain("Postgres exited unexpectedly with code 1")
      expect(error).toContain("contains errors")
      yield* node.terminate("immediate")
      yield* node.exit
    })
  )

  it.live("S-023 what a primary's postgresql.conf must hold is there, and the override file comes last", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const { pageserver, safekeepers, tenantId, timelineId } = bed.storage
      const node = yield* bed.run()
      const lines = (yield* node.file("postgresql.conf")).trimEnd().split("\n")
      expect(lines).toEqual(
        expect.arrayContaining([
          "neon.compute_mode=primary",
          "neon.privileged_role_name='neon_superuser'",
          `neon.extension_server_port=${node.internalPort}`,
          "neon.disable_logical_replication_subscribers=false",
          `neon.tenant_id='${tenantId}'`,
          `neon.timeline_id='${timelineId}'`,
          `neon.safekeepers='${safekeepers.map(({ address }) => address).join(",")}'`,
          `neon.pageserver_connstring='${pageserver.url}'`
        ])
      )
      expect(lines.at(-1)).toBe("include_if_exists = 'compute_ctl_temp_override.conf'")
      yield* node.stop
    })
  )

  it.live("S-025 with skip_pg_catalog_updates nothing of the spec's catalog is created", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const node = yield* bed.run({
        spec: {
          skip_pg_catalog_updates: true,
          cluster: {
            roles: [{ name: "alice", encrypted_password: null, options: null }],
            databases: [{ name: "wonder", owner: "alice", options: null }],
            postgresql_conf: `port = ${(yield* bed.place()).port}\nunix_socket_directories = ''\n`,
            settings: null
          }
        }
      })
      expect(yield* node.sql("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1")).toEqual([
        ["cloud_admin"]
      ])
      expect(yield* node.sql("SELECT datname FROM pg_database WHERE datname = 'wonder'")).toEqual([])
      expect(yield* node.sql("SELECT nspname FROM pg_namespace WHERE nspname ~ '^neon'")).toEqual([])
      yield* node.stop
    })
  )

  it.live("Postgres' log goes on after bytes that are no text", () =>
    Effect.gen(function* () {
      const bed = yield* makeBed()
      const pgbin = yield* bed.wrapper(`[ "$1" = -D ] && printf 'bad \\377\\376 bytes\\n' >&2; exec "$stub" "$@"`)
      const node = yield* bed.run({ args: { "--pgbin": pgbin } })
      expect(node.stderr()).toContain("PG:bad \uFFFD\uFFFD bytes")
      yield* Effect.ignore(node.sql("DO $$ BEGIN RAISE LOG 'still here'; END $$"))
      yield* eventually("the later line is there", () => node.stderr().includes("LOG:  still here"))
      yield* node.stop
    })
  )
})
