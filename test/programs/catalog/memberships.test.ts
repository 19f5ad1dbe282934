/** Memberships of the privileged role that come from migrations. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { migrate } from "../../../src/programs/catalog/migrate.ts"
import { major } from "../../support/postgres.ts"
import { Server } from "./server.ts"

/** Memberships have options since 16. */
const held =
  "SELECT roleid::regrole::text, admin_option FROM pg_auth_members" +
  ` WHERE member = 'neon_superuser'::regrole${major < 16 ? "" : " AND inherit_option AND set_option"} ORDER BY 1`

const created = [
  ["pg_read_all_data", "f"],
  ["pg_write_all_data", "f"]
]
const migrated = [
  ...(major < 16 ? [] : [["pg_create_subscription", "f"]]),
  ["pg_monitor", "t"],
  ["pg_read_all_data", "f"],
  ["pg_signal_backend", "t"],
  ["pg_write_all_data", "f"]
]

type Change = readonly [sql: string, counts: Readonly<Record<string, number>>]

const from16: ReadonlyArray<Change> = [
  ["GRANT pg_monitor TO neon_superuser WITH INHERIT FALSE", { grant_membership: 1 }],
  ["REVOKE pg_create_subscription, pg_monitor FROM neon_superuser", { grant_membership: 2 }],
  ["GRANT pg_create_subscription TO neon_superuser WITH ADMIN OPTION", { revoke_membership: 1, grant_membership: 1 }]
]

layer(Server.vanilla, { excludeTestServices: true, timeout: 60_000 })("the privileged role", (it) => {
  it.effect("gets nothing of a migration that has not run", () =>
    Effect.gen(function* () {
      const { apply, provide, sql } = yield* Server
      yield* apply({})
      assert.deepStrictEqual((yield* apply({})).results, [])
      assert.deepStrictEqual(yield* sql(held), created)
      yield* provide(migrate("neon_superuser"))
      assert.deepStrictEqual(yield* sql(held), migrated)
      assert.deepStrictEqual((yield* apply({})).results, [])
    })
  )

  it.effect("gets back what migrations gave and somebody took, as it was given", () =>
    Effect.gen(function* () {
      const { apply, sql } = yield* Server
      const changes: ReadonlyArray<Change> = [
        ["REVOKE pg_monitor FROM neon_superuser", { grant_membership: 1 }],
        ["REVOKE ADMIN OPTION FOR pg_signal_backend FROM neon_superuser", { grant_membership: 1 }],
        ["REVOKE pg_monitor, pg_signal_backend, pg_read_all_data FROM neon_superuser", { grant_membership: 3 }],
        ...(major < 16 ? [] : from16),
        [
          "ALTER ROLE neon_superuser RENAME TO stolen; REVOKE pg_monitor FROM stolen",
          { create_privileged_role: 1, grant_membership: major < 16 ? 2 : 3 }
        ]
      ]
      for (const [change, counts] of changes) {
        yield* sql(change)
        assert.deepStrictEqual((yield* apply({})).counts, counts, change)
        assert.deepStrictEqual(yield* sql(held), migrated, change)
        assert.deepStrictEqual((yield* apply({})).results, [], change)
      }
    })
  )

  it.effect("what its members gave on with their admin option stays", () =>
    Effect.gen(function* () {
      const { apply, column, sql } = yield* Server
      yield* sql("CREATE ROLE watcher; SET ROLE neon_superuser; GRANT pg_monitor TO watcher; RESET ROLE")
      yield* sql("CREATE ROLE g; GRANT pg_monitor TO g WITH ADMIN OPTION")
      yield* sql("SET ROLE g; GRANT pg_monitor TO neon_superuser; RESET ROLE")
      assert.deepStrictEqual((yield* apply({})).results, [])
      assert.deepStrictEqual(yield* column("SELECT pg_has_role('watcher', 'pg_monitor', 'member')"), ["t"])
    })
  )
})
