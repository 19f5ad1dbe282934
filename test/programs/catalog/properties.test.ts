/** What holds for any document, on a real server. */
import { assert, layer } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { identifier } from "../../../src/domain/catalog/quoting.ts"
import { preview } from "../../../src/programs/catalog/preview.ts"
import { AnyDocument, Name } from "../../domain/catalog/anyDocument.ts"
import { AnyName } from "../../domain/catalog/names.ts"
import { runs } from "../../support/postgres.ts"
import { databases, deleteDatabases, deleteRoles, digest, privilegedDrift, roles, verifier } from "./documents.ts"
import { type Picture, takePicture } from "./picture.ts"
import { type Document, desiredOf, Server } from "./server.ts"

const verifiers = { none: null, md5: digest, scram: verifier("A") }
const Verifier = Schema.Literals(["none", "md5", "scram"])

const AnyNames = Arbitrary.all({
  names: Arbitrary.array(AnyName, { minLength: 1, maxLength: 12 }),
  verifiers: Arbitrary.array(Arbitrary.schema(Verifier), { minLength: 12, maxLength: 12 }),
  databases: Arbitrary.array(AnyName, { maxLength: 2 })
})

const inOrder = (names: ReadonlyArray<string>) =>
  names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))

/** What the next apply would do. */
const planned = (document: Document) =>
  Effect.flatMap(Server, ({ provide }) => provide(preview(desiredOf(document), "incremental"))).pipe(
    Effect.map(({ operations }) => operations.map(({ object, operation }) => `${operation} ${object}`))
  )

const turned = ({ databases, roles, ...document }: Document): Document => ({
  ...document,
  roles: roles?.toReversed() ?? [],
  databases: databases?.toReversed() ?? []
})

/** What somebody else has on the server, with a word that no document has. */
const bystanders = Effect.gen(function* () {
  const { sql } = yield* Server
  yield* sql(
    "CREATE ROLE bystander NOINHERIT CREATEDB CONNECTION LIMIT 3 VALID UNTIL '2040-01-01' PASSWORD 'x';" +
      " CREATE ROLE bystander_friend; GRANT bystander TO bystander_friend WITH ADMIN OPTION;" +
      " GRANT neon_superuser TO bystander; CREATE ROLE bystander_group; GRANT bystander_group TO neon_superuser;" +
      " ALTER ROLE bystander SET work_mem = '1MB'"
  )
  yield* sql("CREATE DATABASE bystander OWNER bystander CONNECTION LIMIT 7")
  yield* sql(
    "REVOKE ALL ON DATABASE bystander FROM PUBLIC; ALTER DATABASE bystander SET search_path = 'x';" +
      " ALTER ROLE bystander_friend IN DATABASE bystander SET work_mem = '1MB';" +
      " DROP TABLE IF EXISTS public.bystander; CREATE TABLE public.bystander (x int); GRANT SELECT ON public.bystander TO bystander; DROP SCHEMA IF EXISTS bystander; CREATE SCHEMA bystander AUTHORIZATION bystander"
  )
  yield* sql(
    "CREATE TABLE public.t (x int); GRANT SELECT ON public.t TO PUBLIC; ALTER DEFAULT PRIVILEGES FOR ROLE bystander GRANT ALL ON TABLES TO bystander_friend;" +
      " REVOKE ALL ON SCHEMA public FROM PUBLIC; CREATE SUBSCRIPTION bystander CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)",
    "bystander"
  )
})

/** What must be as it was: theirs, and the server's own. The record of dropped subscriptions is ours. */
const bystandersIn = (picture: Picture): Picture =>
  Object.fromEntries(
    Object.entries(picture).flatMap(([section, lines]) => {
      if (!section.includes(" in ")) {
        return [[section, lines.filter((line) => /bystander|^pg_|^cloud_admin|^postgres|^template/u.test(line))]]
      }
      return / in (?:bystander|template1|postgres)$/u.test(section)
        ? [[section, lines.filter((line) => !line.startsWith("neon|drop_subscriptions_done"))]]
        : []
    })
  )

/** Nobody's business but theirs. */
const ofOthers = {
  attributes: (name: string) => `ALTER ROLE ${name} NOCREATEDB NOREPLICATION CONNECTION LIMIT 5`,
  settings: (name: string) => `ALTER ROLE ${name} SET work_mem = '1MB'`,
  "no member": (name: string) => `REVOKE neon_superuser FROM ${name}`,
  member: (name: string) => `GRANT pg_read_all_settings TO ${name}`,
  limit: (name: string) => `ALTER DATABASE ${name} CONNECTION LIMIT 9`,
  "settings of the database": (name: string) => `ALTER DATABASE ${name} SET work_mem = '1MB'`,
  rights: (name: string) => `REVOKE CONNECT ON DATABASE ${name} FROM PUBLIC`
}

/** What a document states. */
const stated = {
  role: (name: string) => `DROP ROLE ${name}`,
  database: (name: string) => `DROP DATABASE ${name}`,
  verifier: (name: string) => `ALTER ROLE ${name} PASSWORD '${verifier("C")}'`,
  "no verifier": (name: string) => `ALTER ROLE ${name} PASSWORD NULL`,
  owner: (name: string) => `ALTER DATABASE ${name} OWNER TO cloud_admin`
}

const AnyDrift = Arbitrary.map(
  Arbitrary.schema(
    Schema.Struct({
      kept: Schema.Array(
        Schema.Tuple([
          Schema.Literals([
            "attributes",
            "settings",
            "no member",
            "member",
            "limit",
            "settings of the database",
            "rights"
          ]),
          Name
        ])
      ),
      changes: Schema.Array(
        Schema.Tuple([Schema.Literals(["role", "database", "verifier", "no verifier", "owner"]), Name])
      ),
      privileged: Schema.Literals(privilegedDrift)
    })
  ),
  ({ changes, kept, privileged }) => {
    const lost = new Set(changes.map(([kind, name]) => (kind === "role" || kind === "database") && name))
    return {
      kept: kept.flatMap(([kind, name]) => (lost.has(name) ? [] : [ofOthers[kind](identifier(name))])),
      changes: changes.map(([kind, name]) => stated[kind](identifier(name))),
      privileged
    }
  }
)

/** There may be no such object, or something may depend on it. */
const attempt = (text: string) => Effect.flatMap(Server, ({ sql }) => Effect.ignore(sql(text)))

layer(Server.vanilla, { excludeTestServices: true, timeout: 60_000 })("any document", (it) => {
  it.effect.prop(
    "has names that are created, read back and dropped again, whatever they are",
    [AnyNames],
    ([wish]) =>
      Effect.gen(function* () {
        const server = yield* Server.wiped
        const { apply, column } = server
        yield* apply({})
        const empty = yield* takePicture(server)
        const names = [...new Set(wish.names)]
        const owners = [...new Set(wish.databases)]
        const document: Document = {
          roles: names.map((name, index) => ({ name, encrypted_password: verifiers[wish.verifiers[index] ?? "none"] })),
          databases: owners.map((name, index) => ({ name, owner: names[index % names.length] }))
        }
        yield* apply(document)
        assert.deepStrictEqual(inOrder((yield* column(roles)).map(String)), inOrder(names))
        assert.deepStrictEqual(inOrder((yield* column(databases)).map(String)), inOrder(owners))
        assert.deepStrictEqual((yield* apply(turned(document), { mode: "full" })).results, [])
        yield* apply({ deltas: [...deleteDatabases(owners), ...deleteRoles(names)] })
        assert.deepStrictEqual(yield* takePicture(server), empty)
      }),
    { arbitrary: { runs: runs(3) }, timeout: 300_000 }
  )

  it.effect.prop(
    "leaves nothing to do for a second apply, and the same in any order",
    [AnyDocument, AnyDocument],
    ([{ deltas: _, ...first }, document]) =>
      Effect.gen(function* () {
        const server = yield* Server.wiped
        yield* server.apply(first)
        yield* server.apply(document)
        const made = yield* takePicture(server)
        assert.deepStrictEqual(yield* planned(document), [])
        assert.deepStrictEqual((yield* server.apply(document)).results, [])
        assert.deepStrictEqual((yield* server.apply(document, { mode: "full" })).results, [])
        yield* Server.wiped
        yield* server.apply(first)
        yield* server.apply(turned(document))
        assert.deepStrictEqual(yield* takePicture(server), made)
      }),
    { arbitrary: { runs: runs(3) }, timeout: 300_000 }
  )

  it.effect.prop(
    "touches nothing that it does not name",
    [AnyDocument],
    ([document]) =>
      Effect.gen(function* () {
        const server = yield* Server.wiped
        yield* server.apply({})
        yield* bystanders
        const before = yield* takePicture(server)
        yield* server.apply(document)
        assert.deepStrictEqual(bystandersIn(yield* takePicture(server)), bystandersIn(before))
      }),
    { arbitrary: { runs: runs(3) }, timeout: 300_000 }
  )

  it.effect.prop(
    "is put right where somebody has changed what it states, and only there",
    [AnyDocument, AnyDrift],
    ([{ deltas: _, ...document }, drift]) =>
      Effect.gen(function* () {
        const server = yield* Server.wiped
        const { apply, sql } = server
        yield* apply(document)
        for (const kept of drift.kept) yield* attempt(kept)
        const before = yield* takePicture(server)
        assert.deepStrictEqual((yield* apply(document)).results, [])
        for (const change of drift.changes) yield* attempt(change)
        yield* sql(drift.privileged)
        yield* apply(document)
        const after = yield* takePicture(server)
        assert.deepStrictEqual(after, before)
        assert.deepStrictEqual(yield* planned(document), [])
      }),
    { arbitrary: { runs: runs(3) }, timeout: 300_000 }
  )
})
