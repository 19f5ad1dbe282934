/**
 * The services beside Postgres that take a part of the spec: local_proxy and pgbouncer. They are other processes, with files
 * of their own.
 *
 * Source: reference/startup §19.1–§19.2.
 */
import * as fs from "node:fs/promises"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { LocalProxySpec } from "../domain/ComputeSpec.ts"
import type { PostgresTarget } from "../domain/ConnString.ts"
import { describeLine } from "../domain/describe.ts"
import { withSettings } from "../domain/ini.ts"
import { connect, type PgError } from "./PgWire.ts"
import { consoleOfPgbouncer } from "./schedules.ts"

/** What was to be told did not get there. */
export class SideServiceFailed extends Data.TaggedError("SideServiceFailed")<{
  readonly service: "local_proxy" | "pgbouncer"
  readonly message: string
  readonly cause?: unknown
}> {}

export interface Places {
  readonly localProxyConfig: string
  /** Holds the process id; locked by the process as long as it lives. */
  readonly localProxyPid: string
  /** In a VM, and elsewhere. */
  readonly pgbouncerIni: { readonly autoscaling: string; readonly plain: string }
  /** Directory of the socket in a VM; host elsewhere. */
  readonly pgbouncerHost: { readonly autoscaling: string; readonly plain: string }
  readonly pgbouncerPort: number
}

/** Where they are. The paths of the images; a reference, since there is one of each on a machine. */
export const SideServicePlaces = Context.Reference<Places>("compute/layers/SideServicePlaces", {
  defaultValue: () => ({
    localProxyConfig: "/etc/local_proxy/config.json",
    localProxyPid: "/etc/local_proxy/pid",
    pgbouncerIni: { autoscaling: "/etc/pgbouncer.ini", plain: "/var/db/postgres/pgbouncer/pgbouncer.ini" },
    pgbouncerHost: { autoscaling: "/tmp", plain: "localhost" },
    pgbouncerPort: 6432
  })
})

const attempt = <A>(service: SideServiceFailed["service"], what: string, work: () => Promise<A>) =>
  Effect.tryPromise({
    try: work,
    catch: (cause) => new SideServiceFailed({ service, message: `${what}: ${describeLine(cause)}`, cause })
  })

/**
 * The living process of a file that it has written its id into and holds a lock on (flock); undefined where nobody does. The
 * id alone may be somebody else's by now.
 */
const holderOf = async (path: string): Promise<number | undefined> => {
  const [text, { ino }] = await Promise.all([fs.readFile(path, "utf8"), fs.stat(path, { bigint: true })])
  if (!/^[1-9][0-9]{0,9}$/u.test(text)) return undefined
  const locks = await fs.readFile("/proc/locks", "utf8").catch(() => "")
  const isHeld = locks.split("\n").some((line) => {
    const [, , pid, file] = /\sFLOCK\s+(\S+)\s+\S+\s+([0-9]+)\s+(\S+)/u.exec(line) ?? []
    return pid === text && file?.endsWith(`:${ino}`) === true
  })
  return isHeld ? Number(text) : undefined
}

/** Writes the configuration of local_proxy and tells the process, if it runs. */
export const tellLocalProxy = ({ jwks }: LocalProxySpec): Effect.Effect<void, SideServiceFailed> =>
  Effect.gen(function* () {
    const { localProxyConfig, localProxyPid } = yield* SideServicePlaces
    const document = JSON.stringify(jwks === undefined || jwks === null ? {} : { jwks }, undefined, 2)
    yield* attempt("local_proxy", `writing ${localProxyConfig}`, () => fs.writeFile(localProxyConfig, document))
    yield* attempt("local_proxy", "sending signal to local_proxy", async () => {
      const pid = await holderOf(localProxyPid).catch(() => undefined) // it reads the file when it starts
      if (pid !== undefined) process.kill(pid, "SIGHUP")
    })
  })

export interface PgbouncerOptions {
  /** It runs in a VM: other paths, and no password. */
  readonly autoscaling: boolean
  readonly password: string | undefined
}

/** Writes settings of pgbouncer and makes it read them. A pgbouncer that starts later reads them then. */
export const tellPgbouncer = (
  settings: Readonly<Record<string, string>>,
  { autoscaling, password }: PgbouncerOptions
): Effect.Effect<void, SideServiceFailed> =>
  Effect.gen(function* () {
    const { pgbouncerHost, pgbouncerIni, pgbouncerPort } = yield* SideServicePlaces
    const variant = autoscaling ? "autoscaling" : "plain"
    const path = pgbouncerIni[variant]
    const failed = (message: string, cause?: unknown) => new SideServiceFailed({ service: "pgbouncer", message, cause })
    const before = yield* attempt("pgbouncer", `reading ${path}`, () => fs.readFile(path, "utf8"))
    const text = yield* Effect.mapError(Effect.fromResult(withSettings(before, "pgbouncer", settings)), ({ message }) =>
      failed(`${path}: ${message}`)
    )
    if (text !== before) yield* attempt("pgbouncer", `writing ${path}`, () => fs.writeFile(path, text))
    const target: PostgresTarget = {
      host: pgbouncerHost[variant],
      port: pgbouncerPort,
      user: autoscaling ? "pgbouncer" : "postgres",
      database: "pgbouncer",
      password: undefined,
      options: undefined
    }
    yield* connect({ target, password: password === undefined ? undefined : Redacted.make(password) }).pipe(
      Effect.flatMap((session) => session.query("RELOAD")),
      Effect.scoped,
      Effect.retry({ schedule: consoleOfPgbouncer, while: ({ code }: PgError) => code === undefined }),
      Effect.mapError((error) => failed(`RELOAD: ${error.message}`, error))
    )
  })
