/** Documents over few names, so that everything collides with everything. */
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

export interface Document {
  readonly roles?: ReadonlyArray<unknown>
  readonly databases?: ReadonlyArray<unknown>
  readonly deltas?: ReadonlyArray<unknown>
  readonly more?: Readonly<Record<string, unknown>>
}

/** A verifier of this salt; no password fits it. */
export const scram = (salt: string) => `SCRAM-SHA-256$4096:${salt}$${"A".repeat(43)}=:${"B".repeat(43)}=`

const names = ["a", "b", 'c "d" $x$ \\', "e'"] as const
export const Name = Schema.Literals(names)
const Verifier = Schema.Literals(["none", "md5", "scram"])
const passwords = { none: null, md5: "0".repeat(32), scram: scram("AAAA") }

export const AnyDocument: Arbitrary.Arbitrary<Document> = Arbitrary.map(
  Arbitrary.all({
    listed: Arbitrary.array(Arbitrary.schema(Name), { maxLength: 4 }),
    verifiers: Arbitrary.array(Arbitrary.schema(Verifier), { minLength: 4, maxLength: 4 }),
    databases: Arbitrary.array(Arbitrary.schema(Schema.Tuple([Name, Name])), { maxLength: 4 }),
    drop: Arbitrary.schema(Schema.Boolean),
    deltas: Arbitrary.array(
      Arbitrary.schema(
        Schema.Struct({
          action: Schema.Literals(["delete_db", "rename_db", "rename_role", "delete_role"]),
          name: Name,
          new_name: Name
        })
      ),
      { maxLength: 4 }
    )
  }),
  ({ databases, deltas, drop, listed, verifiers }) => {
    const owners = new Map(databases)
    // A role that owns a listed database is not deleted: the server would refuse that.
    const kept = new Set(owners.values())
    return {
      roles: names.flatMap((name, index) =>
        kept.has(name) || listed.includes(name)
          ? [{ name, encrypted_password: passwords[verifiers[index] ?? "none"] }]
          : []
      ),
      databases: [...owners].map(([name, owner]) => ({ name, owner })),
      deltas: deltas.filter(({ action, name }) => action !== "delete_role" || !kept.has(name)),
      more: { drop_subscriptions_before_start: drop }
    }
  }
)
