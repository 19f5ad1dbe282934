import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { readSnapshot } from "../../../src/domain/catalog/reading.ts"
import { firstIssue } from "../../../src/domain/schemaIssue.ts"

const answer = {
  version: 170010,
  recovery: false,
  database: "postgres",
  admin: "cloud_admin",
  roles: {
    name: ["cloud_admin", "alice"],
    verifier: [null, "md5"],
    flags: ["ttttttt", "ftfftff"],
    connectionLimit: [-1, 3],
    validUntil: [null, "2030-01-01 00:00:00+00"]
  },
  memberships: [],
  databases: {
    oid: [5, 9],
    name: ["postgres", "broken"],
    owner: ["cloud_admin", "alice"],
    flags: ["ft", "tf"],
    connectionLimit: [-1, -2]
  },
  subscriptions: [{ database: 9, name: "s" }],
  dependents: [],
  schemas: [],
  extensions: [],
  neonVersion: null,
  healthCheck: true,
  auditSilenced: false,
  migration: { id: [12] },
  dropped: null,
  state: {
    database: [5],
    timeline: ["t"],
    fingerprint: ["f"],
    deltas: [null],
    unfinished: [["broken", 1]]
  }
}

const read = (change: Readonly<Record<string, unknown>>) => readSnapshot(JSON.stringify({ ...answer, ...change }))

const issue = (text: string): string => {
  const result = readSnapshot(text)
  return Result.isFailure(result) ? firstIssue(result.failure) : "read"
}

describe("the answer of the catalogs", () => {
  it("is taken apart by columns", () => {
    const { databases, migrationId, roles, stateTable } = Result.getOrThrow(read({}))
    assert.deepStrictEqual(roles.get("alice"), {
      superuser: false,
      inherit: true,
      createRole: false,
      createDb: false,
      login: true,
      replication: false,
      bypassRls: false,
      connectionLimit: 3,
      validUntil: "2030-01-01 00:00:00+00",
      verifier: "md5"
    })
    assert.deepStrictEqual(databases.get("postgres"), {
      oid: 5,
      owner: "cloud_admin",
      isTemplate: false,
      allowConnections: true,
      connectionLimit: -1,
      invalid: false,
      subscriptions: [],
      mark: { timelineId: "t", fingerprint: "f", deltas: undefined },
      unfinished: false
    })
    assert.deepStrictEqual(databases.get("broken"), {
      oid: 9,
      owner: "alice",
      isTemplate: true,
      allowConnections: false,
      connectionLimit: -2,
      invalid: true,
      subscriptions: ["s"],
      mark: undefined,
      unfinished: true
    })
    assert.strictEqual(migrationId, 12)
    assert.isTrue(stateTable)
  })

  it("tells of no migration where there is not exactly one row", () => {
    for (const migration of [null, { id: [] }, { id: [12, 12] }]) {
      assert.strictEqual(Result.getOrThrow(read({ migration })).migrationId, undefined)
    }
  })

  it.each<readonly [string, Readonly<Record<string, unknown>>]>([
    ["roles: columns of different lengths", { roles: { ...answer.roles, name: ["alice"] } }],
    ["databases: columns of different lengths", { databases: { ...answer.databases, oid: [] } }],
    ["roles.flags[1]: ", { roles: { ...answer.roles, flags: ["ttttttt", "ft"] } }],
    ["databases.oid[0]: ", { databases: { ...answer.databases, oid: ["5", "9"] } }],
    ["state: columns of different lengths", { state: { ...answer.state, timeline: [] } }]
  ])("is refused by its place: %s", (place, change) => {
    assert.include(issue(JSON.stringify({ ...answer, ...change })), place)
  })

  it("is refused where it is cut off", () => {
    assert.notStrictEqual(issue(JSON.stringify(answer).slice(0, -1)), "read")
  })
})
