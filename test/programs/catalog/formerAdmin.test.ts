import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Server } from "./server.ts"

layer(Server.vanilla, { excludeTestServices: true, timeout: 60_000 })("a cluster of the former superuser", (it) => {
  it.effect("S-028 gets cloud_admin, who is a superuser and may do what the former one may", () =>
    Effect.gen(function* () {
      const { apply, sql } = yield* Server
      yield* sql("CREATE ROLE helper LOGIN SUPERUSER")
      yield* sql("ALTER ROLE cloud_admin RENAME TO zenith_admin", "postgres", "helper")
      yield* apply({ roles: [{ name: "alice" }], databases: [{ name: "app", owner: "alice" }] })
      assert.deepStrictEqual(
        yield* sql(
          "SELECT rolsuper, rolcanlogin, pg_has_role(oid, 'zenith_admin', 'member') FROM pg_roles WHERE rolname = 'cloud_admin'"
        ),
        [["t", "t", "t"]]
      )
      assert.deepStrictEqual(yield* sql("SELECT datdba::regrole FROM pg_database WHERE datname = 'app'"), [["alice"]])
    })
  )

  it.effect("where neither can connect, the failure says so", () =>
    Effect.gen(function* () {
      const { apply, sql } = yield* Server
      yield* sql(
        "ALTER ROLE cloud_admin RENAME TO gone; ALTER ROLE zenith_admin RENAME TO gone_too",
        "postgres",
        "helper"
      )
      const { cause } = yield* Effect.flip(apply({}))
      assert.include(
        String(cause),
        'tried connecting with cloud_admin but could not authenticate (role "cloud_admin" does not exist), and zenith_admin does not work either'
      )
      yield* sql("ALTER ROLE gone RENAME TO cloud_admin", "postgres", "helper")
    })
  )
})
