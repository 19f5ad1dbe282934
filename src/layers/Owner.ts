/**
 * Who owns Postgres and its files.
 *
 * Postgres refuses to run as root. A process that is root therefore starts it as another user and gives that user the
 * files it needs (decision P6); any other process changes nothing.
 */
import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

export interface User {
  readonly name: string
  readonly uid: number
  readonly gid: number
  readonly home: string
}

/** The user asked for does not exist, or cannot run Postgres. */
export class NoSuchUser extends Data.TaggedError("NoSuchUser")<{ readonly user: string; readonly message: string }> {}

const parseEntry = (line: string): User | undefined => {
  const [name, , uid, gid, , home] = line.trim().split(":")
  return name === undefined || uid === undefined || gid === undefined || uid === "" || gid === ""
    ? undefined
    : { name, uid: Number(uid), gid: Number(gid), home: home ?? "/" }
}

const passwd = (): string => {
  try {
    return readFileSync("/etc/passwd", "utf8") // small, and quicker than loading the promises of `fs` at every start
  } catch {
    return ""
  }
}

const find = (name: string): Effect.Effect<User | undefined> =>
  Effect.suspend(() => {
    const local = passwd()
      .split("\n")
      .map(parseEntry)
      .find((user) => user?.name === name)
    if (local !== undefined) return Effect.succeed(local)
    // Users of a directory service are not in the file.
    return Effect.callback<User | undefined>((resume) => {
      execFile("getent", ["passwd", name], { timeout: 5000 }, (_error, stdout) =>
        resume(Effect.succeed(parseEntry(stdout)))
      )
    })
  })

/** The user to run Postgres as; undefined where the process is not root. Without a wish: `postgres`, else `nobody`. */
export const resolve = Effect.fnUntraced(function* (wish: string | undefined) {
  if (process.getuid?.() !== 0) return undefined
  const candidates = wish === undefined ? ["postgres", "nobody"] : [wish]
  for (const name of candidates) {
    const user = yield* find(name)
    if (user !== undefined && user.uid !== 0) return user
  }
  return yield* new NoSuchUser({
    user: candidates.join(", "),
    message:
      wish === undefined
        ? "this process is root, and neither user postgres nor nobody exists to run Postgres as; name one with --run-as"
        : `--run-as ${wish}: no such user, or it is root`
  })
})

/** `undefined`: the process is not root, files and children keep its own user. */
export class Owner extends Context.Service<Owner, { readonly user: User | undefined }>()("compute/layers/Owner") {
  static readonly layer = (wish: string | undefined) =>
    Layer.effect(
      Owner,
      Effect.map(resolve(wish), (user) => Owner.of({ user }))
    )
}
