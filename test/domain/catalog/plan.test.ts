import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { decodeComputeSpec } from "../../../src/domain/ComputeConfig.ts"
import { type Desired, fromSpec } from "../../../src/domain/catalog/Desired.ts"
import { script } from "../../../src/domain/catalog/Operation.ts"
import { plan } from "../../../src/domain/catalog/plan.ts"
import { runs } from "../../support/postgres.ts"
import { AnyCluster, AnyDrift, changesOf, fresh, withAttributes } from "./anyCluster.ts"
import { AnyDocument, type Document, scram } from "./anyDocument.ts"
import { apply, emptyCluster, type Model, plainDatabase, plainRole, tamper, visible } from "./model.ts"
import { AnyName, TooLongName } from "./names.ts"

const timelineId = "0123456789abcdef0123456789abcdef"

const read = ({ databases = [], deltas = [], more = {}, roles = [] }: Document) =>
  Result.flatMap(
    decodeComputeSpec({
      format_version: 1,
      suspend_timeout_seconds: -1,
      cluster: { roles, databases },
      delta_operations: deltas,
      ...more
    }),
    (spec) => fromSpec(spec, { privilegedRole: "neon_superuser", lakebase: false, timelineId })
  )

const desired = (document: Document): Desired => Result.getOrThrow(read(document))

/** The field that a document is refused for. */
const refusedField = (document: Document): string | undefined => {
  const result = read(document)
  return Result.isFailure(result) && "field" in result.failure ? result.failure.field : undefined
}

/** What depends on roles, as the server would say it for this document. */
const withDependents = (model: Model): Model => ({
  ...model,
  snapshot: {
    ...model.snapshot,
    dependents: new Map(
      [...model.snapshot.roles.keys()].map((role) => {
        const owned = [...model.snapshot.databases.values()].filter(({ owner }) => owner === role)
        return [
          role,
          { shared: false, owned: new Set(owned.map(({ oid }) => oid)), inside: new Set<number>() }
        ] as const
      })
    )
  }
})

const applied = (model: Model, wanted: Desired, limit?: number) =>
  apply(withDependents(model), wanted, "incremental", limit)

const often = { arbitrary: { runs: runs(100) } }

describe("plan", () => {
  it.prop(
    "after an apply there is nothing left to do",
    [AnyCluster, AnyDocument],
    ([cluster, document]) => {
      const wanted = desired(document)
      const after = applied(cluster, wanted).model
      const again = plan(withDependents(after).snapshot, wanted, "incremental")
      assert.deepStrictEqual(
        again.operations.map(({ object, operation }) => `${operation} ${object}`),
        []
      )
      assert.deepStrictEqual(again.visits, [])
    },
    often
  )

  it.prop(
    "what the document lists is there, what it deletes is gone",
    [AnyCluster, AnyDocument],
    ([cluster, document]) => {
      const wanted = desired(document)
      const { snapshot } = applied(cluster, wanted).model
      const deleted = new Set(wanted.deltas.flatMap((delta) => (delta._tag === "DeleteRole" ? [delta.name] : [])))
      for (const { name, verifier } of wanted.roles) {
        assert.strictEqual(snapshot.roles.has(name), !deleted.has(name), name)
        if (!deleted.has(name)) assert.strictEqual(snapshot.roles.get(name)?.verifier, verifier)
      }
      for (const { name, owner } of wanted.databases) assert.strictEqual(snapshot.databases.get(name)?.owner, owner)
    },
    often
  )

  it.prop(
    "a crash after any prefix and another apply end like an apply without a crash",
    [AnyCluster, AnyDocument, Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 30 }))],
    ([cluster, document, crash]) => {
      const wanted = desired(document)
      const whole = applied(cluster, wanted)
      const prefix = applied(cluster, wanted, Math.min(crash, whole.done.length))
      assert.deepStrictEqual(visible(applied(prefix.model, wanted).model), visible(whole.model))
    },
    often
  )

  it.prop(
    "the order of roles and of databases does not matter",
    [AnyCluster, AnyDocument],
    ([cluster, document]) => {
      const turned = {
        ...document,
        roles: document.roles?.toReversed() ?? [],
        databases: document.databases?.toReversed() ?? []
      }
      assert.deepStrictEqual(
        visible(applied(cluster, desired(turned)).model),
        visible(applied(cluster, desired(document)).model)
      )
    },
    often
  )

  it.prop(
    "the same input gives the same plan",
    [AnyCluster, AnyDocument],
    ([cluster, document]) => {
      assert.deepStrictEqual(
        plan(cluster.snapshot, desired(document), "full"),
        plan(cluster.snapshot, desired(document), "full")
      )
    },
    often
  )

  it.prop(
    "nothing outside the document is touched",
    [AnyCluster, AnyDocument],
    ([cluster, document]) => {
      const wanted = desired(document)
      const named = new Set([
        ...wanted.roles.map(({ name }) => name),
        ...wanted.databases.map(({ name }) => name),
        ...wanted.deltas.flatMap((delta) => ("newName" in delta ? [delta.name, delta.newName] : [delta.name]))
      ])
      const before = cluster.snapshot
      const after = applied(cluster, wanted).model.snapshot
      const gone = new Set([
        ...[...before.roles.keys()].filter((name) => !after.roles.has(name)),
        ...wanted.deltas.flatMap((delta) => (delta._tag === "RenameRole" ? [delta.name, delta.newName] : []))
      ])
      for (const [name, role] of before.roles) if (!named.has(name)) assert.deepStrictEqual(after.roles.get(name), role)
      for (const [name, { owner, ...state }] of before.databases) {
        if (named.has(name) || state.invalid) continue
        const { owner: newOwner, mark: _, ...newState } = after.databases.get(name) ?? plainDatabase(0, "")
        assert.deepStrictEqual({ ...newState, mark: undefined }, state)
        if (!gone.has(owner)) assert.strictEqual(newOwner, owner)
      }
    },
    often
  )

  it.prop(
    "what somebody changes behind our back is put right, and nothing else",
    [AnyDocument, AnyDrift],
    ([{ deltas: _, ...document }, drift]) => {
      const wanted = desired(document)
      const good = applied(emptyCluster, wanted).model
      const dropped = new Set(drift.changes.map(([kind, name]) => kind === "drop role" && name))
      const theirs = (model: Model) => drift.kept.filter(({ name }) => !dropped.has(name)).reduce(withAttributes, model)
      const broken = drift.changes.reduce((model, made) => tamper(model, changesOf(model, made)), theirs(good))
      const healed = applied(
        { ...broken, snapshot: { ...broken.snapshot, ...drift.privileged(broken.snapshot) } },
        wanted
      )
      assert.deepStrictEqual(visible(healed.model), visible(theirs(good)))
      assert.deepStrictEqual(plan(withDependents(healed.model).snapshot, wanted, "incremental").operations, [])
    },
    often
  )

  it.prop(
    "any name of 1 to 63 bytes is taken as it is",
    [AnyName, AnyName],
    ([name, owner]) => {
      const { databases, roles } = desired({ roles: [{ name }], databases: [{ name, owner }] })
      assert.deepStrictEqual([roles[0]?.name, databases[0]?.name, databases[0]?.owner], [name, name, owner])
    },
    often
  )

  it.prop(
    "a name of more than 63 bytes is refused by its field, wherever it stands",
    [TooLongName, AnyName],
    ([long, name]) => {
      const rename = (action: string) => ({ deltas: [{ action, name, new_name: long }] })
      const cases: ReadonlyArray<readonly [string, Document]> = [
        ["cluster.roles[1].name", { roles: [{ name }, { name: long }] }],
        ["cluster.databases[0].name", { databases: [{ name: long, owner: name }] }],
        ["cluster.databases[0].owner", { databases: [{ name, owner: long }] }],
        ...["delete_db", "delete_role", "rename_db", "rename_role"].map(
          (action) => ["delta_operations[0].name", { deltas: [{ action, name: long, new_name: name }] }] as const
        ),
        ...["rename_db", "rename_role"].map((action) => ["delta_operations[0].new_name", rename(action)] as const)
      ]
      for (const [field, document] of cases) assert.strictEqual(refusedField(document), field)
    },
    often
  )

  it.prop(
    "no verifier is shown",
    [AnyCluster, AnyDocument],
    ([cluster, document]) => {
      for (const { statements } of plan(cluster.snapshot, desired(document), "full").operations) {
        for (const { shown } of statements) assert.notMatch(shown, /SCRAM-SHA-256|md5/u)
      }
    },
    often
  )

  it("a database that the list of delta operations has made survives a replay of the list", () => {
    const wanted = desired({
      roles: [{ name: "a" }],
      databases: [{ name: "b", owner: "a" }],
      deltas: [
        { action: "delete_db", name: "b" },
        { action: "rename_db", name: "old", new_name: "b" }
      ]
    })
    const cluster: Model = {
      ...emptyCluster,
      snapshot: {
        ...emptyCluster.snapshot,
        databases: new Map([
          ...emptyCluster.snapshot.databases,
          ["b", plainDatabase(100, "cloud_admin")],
          ["old", plainDatabase(101, "cloud_admin")]
        ])
      },
      contents: new Map([...emptyCluster.contents, [101, fresh]])
    }
    const after = applied(cluster, wanted).model
    assert.strictEqual(after.snapshot.databases.get("b")?.oid, 101)
    assert.deepStrictEqual(
      plan(after.snapshot, wanted, "full").operations.filter(({ stage }) => stage === "system"),
      []
    )
  })

  it("a fingerprint is void on another timeline, after another document, and in full mode", () => {
    const document = { roles: [{ name: "a" }], databases: [{ name: "b", owner: "a" }] }
    const { snapshot } = applied(emptyCluster, desired(document)).model
    const visits = (wanted: Desired, mode: "incremental" | "full") =>
      plan(snapshot, wanted, mode).visits.map(({ database }) => database)
    assert.deepStrictEqual(visits(desired(document), "incremental"), [])
    assert.deepStrictEqual(visits(desired(document), "full"), ["b"])
    assert.deepStrictEqual(visits({ ...desired(document), timelineId: "f".repeat(32) }, "incremental"), ["b"])
    const options = [{ name: "CONNECTION LIMIT", value: "5", vartype: "integer" }]
    const changed = { ...document, databases: [{ name: "b", owner: "a", options }] }
    assert.deepStrictEqual(visits(desired(changed), "incremental"), ["b"])
    const newer = { ...snapshot, neonVersion: "1.7" }
    assert.deepStrictEqual(
      plan(newer, desired(document), "incremental").visits.map(({ database }) => database),
      ["b"]
    )
  })

  it("S-096 S-095 a new role gets its attributes, its membership and its verifier as the server stores it", () => {
    const wanted = desired({
      roles: [
        { name: 'b"ob', encrypted_password: "6b1d16b78004bbd51fa06af9eda75972" },
        { name: "s", encrypted_password: scram("AAAA") },
        { name: "n", encrypted_password: null }
      ]
    })
    const made = plan(emptyCluster.snapshot, wanted, "incremental").operations.filter(
      ({ operation }) => operation === "create_role"
    )
    const start = "INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION IN ROLE"
    assert.deepStrictEqual(made.map(script), [
      `CREATE ROLE "b""ob" ${start} "neon_superuser"  LOGIN PASSWORD 'md56b1d16b78004bbd51fa06af9eda75972'`,
      `CREATE ROLE "s" ${start} "neon_superuser"  LOGIN PASSWORD '${scram("AAAA")}'`,
      `CREATE ROLE "n" ${start} "neon_superuser"  LOGIN PASSWORD NULL`
    ])
  })

  it("before version 16 memberships have one option, and what a version lacks is not granted", () => {
    const { snapshot } = applied(emptyCluster, desired({})).model
    const roles = new Map([...snapshot.roles, ["pg_monitor", plainRole], ["pg_signal_backend", plainRole]] as const)
    const older = { ...snapshot, roles, serverVersion: 150000, migrationId: 4 }
    assert.deepStrictEqual(plan(older, desired({}), "incremental").operations.map(script), [
      'GRANT "pg_monitor" TO "neon_superuser" WITH ADMIN OPTION'
    ])
  })

  it("S-110 a role that JWTs log in as gets nothing but LOGIN", () => {
    const jwks = [{ id: "1", role_names: ["authenticated"], jwks_url: "http://x", provider_name: "p" }]
    const wanted = desired({ roles: [{ name: "authenticated" }], more: { local_proxy_config: { jwks } } })
    const [made] = plan(emptyCluster.snapshot, wanted, "incremental").operations.filter(
      ({ operation }) => operation === "create_role"
    )
    assert.strictEqual(made && script(made), 'CREATE ROLE "authenticated"  LOGIN PASSWORD NULL')
  })

  it("S-097 options of a database come before its owner", () => {
    const options = [
      { name: "LC_COLLATE", value: "C", vartype: "string" },
      { name: "TEMPLATE", value: "template0", vartype: "enum" }
    ]
    const wanted = desired({ roles: [{ name: "alexk" }], databases: [{ name: "DB2", owner: "alexk", options }] })
    const [made] = plan(emptyCluster.snapshot, wanted, "incremental").operations.filter(
      ({ operation }) => operation === "create_database"
    )
    assert.strictEqual(made && script(made), `CREATE DATABASE "DB2" LC_COLLATE 'C' TEMPLATE template0 OWNER "alexk"`)
  })

  it.each<readonly [string, Document]>([
    ["cluster.roles[1].name", { roles: [{ name: "a" }, { name: "é".repeat(32) }] }],
    ["cluster.roles[0].name", { roles: [{ name: "" }] }],
    ["cluster.roles[0].name", { roles: [{ name: "a\0b" }] }],
    ["cluster.roles[0].name", { roles: [{ name: "a\ud800" }] }],
    ["cluster.roles[0].encrypted_password", { roles: [{ name: "a", encrypted_password: "hunter2" }] }],
    ["cluster.roles[0].encrypted_password", { roles: [{ name: "a", encrypted_password: scram("AAAA==") }] }],
    ["cluster.roles[0].encrypted_password", { roles: [{ name: "a", encrypted_password: scram("") }] }],
    ["cluster.roles[1].name", { roles: [{ name: "a" }, { name: "a", encrypted_password: "0".repeat(32) }] }],
    ["cluster.databases[0].name", { databases: [{ name: "x".repeat(64), owner: "a" }] }],
    ["cluster.databases[0].owner", { databases: [{ name: "x", owner: "x".repeat(64) }] }],
    ["delta_operations[0].name", { deltas: [{ action: "delete_db", name: "x".repeat(64) }] }],
    ["delta_operations[0].name", { deltas: [{ action: "delete_role", name: "neon_superuser" }] }],
    ["delta_operations[0].new_name", { deltas: [{ action: "rename_db", name: "x" }] }],
    [
      "delta_operations[1].new_name",
      {
        deltas: [
          { action: "?", name: "" },
          { action: "rename_role", name: "x", new_name: "" }
        ]
      }
    ]
  ])("a document is refused with the name of its field: %s", (field, document) => {
    assert.strictEqual(refusedField(document), field)
  })

  it("names of 63 bytes, and the same entry twice, are good", () => {
    const role = { name: `${"é".repeat(31)}x`, encrypted_password: null }
    assert.strictEqual(desired({ roles: [role, role] }).roles.length, 1)
  })
})
