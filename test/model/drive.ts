/**
 * Drives a node through steps and looks at it from outside, all the time.
 *
 * What must hold, whatever happens in whatever order: statuses follow each other as the table says; a status tells the
 * truth; every call ends, with an answer that is allowed; there is one worker; once the causes are gone the node heals; and
 * its end is a good one. What does not hold is collected, so that one run tells everything.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { display, edges } from "../../src/domain/ComputeStatus.ts"
import { localAdmin } from "../../src/domain/ConnString.ts"
import * as Lsn from "../../src/domain/Lsn.ts"
import * as PgWire from "../../src/layers/PgWire.ts"
import type { Bed, Json, StartOptions } from "../support/bed.ts"
import { Status } from "../support/compute.ts"
import { type Reply, request } from "../support/http.ts"
import { position, retries } from "../support/storage.ts"
import type { Beginning, Step, Word } from "./steps.ts"

/** A node under test: in this process or in one of its own. */
export interface Subject {
  readonly pgdata: string
  readonly port: number
  readonly externalPort: number
  readonly internalPort: number
  readonly token: Redacted.Redacted<string>
  /** Everything it has logged so far. */
  readonly log: () => string
  readonly exit: Effect.Effect<number | null>
  readonly isOver: () => boolean
  /** Ends a lingering. */
  readonly hurry: Effect.Effect<void>
  readonly postmaster: Effect.Effect<number>
  /** The server certificate was replaced. */
  readonly certificate: Effect.Effect<void>
  /** What cannot be seen from outside and must not be. */
  readonly complaints: () => ReadonlyArray<string>
}

interface Call {
  readonly what: Word | "heal" | "end"
  readonly marker: number
  readonly answer: Fiber.Fiber<Result.Result<Reply, Error>>
}

const otherTimeline = { timeline_id: "0123456789abcdef0123456789abcdef" }
const healLimit = "30 seconds"
const answerLimit = "20 seconds"
const sampleMillis = 7

const decodeStatus = Schema.decodeUnknownOption(Status)
const decodeLsn = Schema.decodeUnknownOption(Schema.Struct({ lsn: Schema.NullOr(Schema.String) }))

const allowed: Readonly<Record<string, ReadonlyArray<number>>> = {
  configure: [200, 400, 412, 500],
  refresh: [200, 500],
  terminate: [200, 201, 500]
}

/** Every change of status in the log, in order. */
const moves = (log: string): ReadonlyArray<readonly [from: string, to: string]> =>
  [...log.matchAll(/Changing compute status from (\S+) to (\S+)/gu)].map(([, from = "", to = ""]) => [from, to])

const illegalMoves = (log: string): ReadonlyArray<string> =>
  moves(log).flatMap(([from, to], index, all) => {
    const known = edges.some((edge) => display(edge.from) === from && display(edge.to) === to)
    const before = all[index - 1]?.[1] ?? from
    return [
      ...(known ? [] : [`no edge leads from ${from} to ${to}`]),
      ...(before === from ? [] : [`the status was ${before}, and then changed from ${from}`])
    ]
  })

/** Reasons of a node whose Postgres is gone while nobody asked for the end: the status stays. */
const isLastWord = (error: string): boolean => /^(?:Postgres exited|failed to sync|safekeepers are not)/u.test(error)

export const startOptions = (beginning: Beginning): StartOptions => ({
  source: beginning === "empty" ? "controlPlaneAsItIs" : "controlPlane",
  env: retries(0),
  ...(beginning === "failed"
    ? { spec: { pageserver_connection_info: undefined, pageserver_connstring: "postgresql://127.0.0.1:1" } }
    : {})
})

/** Returns the changes of status, in order; dies with everything that did not hold, and with the log. */
export const drive = Effect.fnUntraced(function* <E, R>(
  bed: Bed,
  beginning: Beginning,
  steps: ReadonlyArray<Step>,
  start: (options: StartOptions) => Effect.Effect<Subject, E, R>
) {
  const wrong: Array<string> = []
  const expect = (holds: boolean, what: string): void => void (holds || wrong.push(what))
  const { controlPlane, pageserver, stub } = bed.storage
  const id = bed.computeId()
  const source = "controlPlane" as const

  let markers = 0
  const bad = new Set<string | null>()
  const marked = (more: StartOptions = {}): StartOptions => ({
    source,
    ...more,
    conf: `search.step = '${++markers}'`
  })
  const withRoles = (...roles: ReadonlyArray<Json>) =>
    Effect.map(bed.document(), ({ spec: { cluster } }) => ({
      cluster: {
        ...Object(cluster),
        roles,
        postgresql_conf: `${Object(cluster).postgresql_conf}search.step = '${++markers}'\n`
      },
      skip_pg_catalog_updates: false
    }))
  const role = Effect.suspend(() => withRoles({ name: `r${markers + 1}` }))
  const badRole = Effect.tap(
    withRoles({ name: "bad", options: [{ name: "nonsense", value: null, vartype: "bool" }] }),
    () => Effect.sync(() => bad.add(String(markers)))
  )

  // The data are of no interest: for the storage to take them over takes more than a second.
  const where = Lsn.format(yield* position(bed))
  stub.faults.add({ at: "sync", do: "print", text: where, times: "forever" })
  if (beginning === "starting") pageserver.faults.add({ at: "command", do: "delay", millis: 150 })
  if (beginning === "empty") controlPlane.empty(id, [bed.storage.keys.computeJwk])
  const node = yield* start(startOptions(beginning))

  const ask = (server: "external" | "internal", what: string, body?: unknown) =>
    request(server === "external" ? node.externalPort : node.internalPort, what, {
      ...(server === "external" ? { headers: { authorization: `Bearer ${Redacted.value(node.token)}` } } : {}),
      ...(body === undefined ? {} : { body })
    })
  const status = Effect.map(Effect.result(ask("external", "GET /status")), (answer) =>
    Result.isSuccess(answer) ? Option.getOrUndefined(decodeStatus(answer.success.json)) : undefined
  )
  const value = (sql: string) =>
    PgWire.connect({
      target: localAdmin(node.port),
      connectTimeout: "2 seconds"
    }).pipe(
      Effect.flatMap((session) => session.query(sql)),
      Effect.map((sets) => sets.at(-1)?.rows[0]?.[0] ?? null),
      Effect.scoped,
      Effect.catch(() => Effect.undefined)
    )
  const until = (what: string, holds: (seen: Status | undefined) => boolean) =>
    Effect.repeat(Effect.delay(status, sampleMillis), { until: (seen) => node.isOver() || holds(seen) }).pipe(
      Effect.timeoutOrElse({
        duration: healLimit,
        orElse: () => Effect.sync(() => void wrong.push(`waited in vain until ${what}`))
      })
    )

  const isEnding = (seen: Status | undefined): boolean =>
    seen === undefined || /^terminat/u.test(seen.status) || (seen.error !== null && isLastWord(seen.error))
  const isWaiting = (seen: Status | undefined): boolean =>
    seen?.status === "refresh_configuration_pending" && seen.error !== null
  const rests = (seen: Status | undefined): boolean =>
    isEnding(seen) || ["running", "failed", "empty"].includes(seen?.status ?? "") || isWaiting(seen)

  // --- looking on ---

  /** Of the spec that Postgres has; the empty text where it had none. Undefined: Postgres does not answer. */
  const liveMarker = value("SELECT coalesce(current_setting('search.step', true), '')")

  /**
   * A node that says that it runs has a Postgres that answers, and that has a spec that can be applied. A moment is granted
   * for an end to be noticed.
   */
  const lookAtPostgres = Effect.gen(function* () {
    const before = moves(node.log()).length
    const marker = yield* liveMarker
    if (marker === undefined) yield* Effect.sleep("300 millis")
    const seen = yield* status
    if (seen?.status !== "running" || seen.error !== null || moves(node.log()).length !== before) return
    expect(marker !== undefined || (yield* liveMarker) !== undefined, "running, and yet Postgres does not answer")
    expect(!bad.has(marker ?? ""), `running, and yet what Postgres has is spec ${marker}, which cannot be applied`)
  })

  const look = (seen: Status): void => {
    const { error } = seen
    if (seen.status === "running") expect(error === null || isLastWord(error), `running, and yet: ${error}`)
    if (seen.status === "failed") expect(error !== null, "failed, and nobody knows why")
    if (seen.status === "empty") expect(seen.tenant === null, "empty, and yet there is a tenant")
    else expect(seen.tenant === bed.storage.tenantId, `another tenant: ${seen.tenant}`)
  }
  const sampler = Effect.gen(function* () {
    for (let count = 0; ; count++) {
      const seen = yield* status
      if (seen !== undefined) look(seen)
      if (seen?.status === "running" && seen.error === null && count % 5 === 0) {
        yield* lookAtPostgres
      }
      yield* Effect.sleep(sampleMillis)
    }
  })

  // --- doing ---

  const calls: Array<Call> = []
  const call = (what: Call["what"], asking: Effect.Effect<Reply, Error>) =>
    Effect.gen(function* () {
      calls.push({ what, marker: markers, answer: yield* Effect.forkScoped(Effect.result(asking)) })
    })
  const configure = (what: Call["what"], options: StartOptions) =>
    Effect.flatMap(bed.document(options), (document) => call(what, ask("external", "POST /configure", document)))
  const signal = (name: "SIGINT" | "SIGQUIT" | "SIGKILL") =>
    Effect.gen(function* () {
      const pid = yield* Effect.exit(node.postmaster)
      if (pid._tag === "Success" && pid.value > 1) yield* Effect.ignore(Effect.try(() => process.kill(pid.value, name)))
    })

  const act = (word: Word): Effect.Effect<unknown, never, Scope.Scope> => {
    switch (word) {
      case "settle":
        return Effect.andThen(until("it comes to rest", rests), lookAtPostgres)
      case "refresh":
        return call(word, ask("internal", "POST /refresh_configuration"))
      case "configure setting":
        return configure(word, marked())
      case "configure role":
        return Effect.flatMap(role, (spec) => configure(word, { spec }))
      case "configure bad role":
        // As a control plane does it: what it sends is what it serves.
        return Effect.flatMap(badRole, (spec) =>
          Effect.andThen(bed.publish({ source, spec }), configure(word, { spec }))
        )
      case "configure other timeline":
        return configure(word, marked({ spec: otherTimeline }))
      case "configure nonsense":
        return call(word, ask("external", "POST /configure", "{"))
      case "publish setting":
        return bed.publish(marked())
      case "publish role":
        return Effect.flatMap(role, (spec) => bed.publish({ source, spec }))
      case "publish bad role":
        return Effect.flatMap(badRole, (spec) => bed.publish({ source, spec }))
      case "publish other timeline":
        return bed.publish(marked({ spec: otherTimeline }))
      case "publish 503":
        return Effect.sync(() => controlPlane.answer(id, 503, ""))
      case "publish 404":
        return Effect.sync(() => controlPlane.remove(id))
      case "publish garbage":
        return Effect.sync(() => controlPlane.answer(id, 200, "<html>"))
      case "publish detached":
        return Effect.sync(() => controlPlane.empty(id, []))
      case "answer slowly":
        return Effect.sync(() => controlPlane.faults.add({ at: "request", do: "delay", millis: 150 }))
      case "break off":
        return Effect.sync(() => controlPlane.faults.add({ at: "request", do: "reset" }))
      case "certificate":
        return node.certificate
      case "terminate fast":
        return call(word, ask("external", "POST /terminate?mode=fast"))
      case "terminate immediate":
        return call(word, ask("external", "POST /terminate?mode=immediate"))
      case "kill SIGINT":
        return signal("SIGINT")
      case "kill SIGQUIT":
        return signal("SIGQUIT")
      case "kill SIGKILL":
        return signal("SIGKILL")
    }
  }

  yield* until(`it is ${beginning}`, (seen) =>
    beginning === "starting" ? seen !== undefined : seen?.status === beginning
  )
  const sampling = yield* Effect.forkScoped(sampler)
  for (const [word, pause] of steps) {
    yield* act(word)
    if (pause > 0) yield* Effect.sleep(pause)
  }

  // Once more under whatever causes there are now.
  for (const word of ["settle", "refresh", "settle"] as const) yield* act(word)

  // --- the causes are gone ---

  controlPlane.faults.clear()
  pageserver.faults.clear()
  const healthy = marked()
  const marker = String(markers)
  yield* bed.publish(healthy)
  const found = yield* status
  if (found?.status === "empty") yield* configure("heal", healthy)
  else if (!isEnding(found)) yield* call("heal", ask("internal", "POST /refresh_configuration"))
  if (!isEnding(found)) {
    const live = Effect.map(liveMarker, (step) => step === marker)
    const healed = Effect.gen(function* () {
      while (!node.isOver()) {
        const seen = yield* status
        if (isEnding(seen)) return
        if (seen?.status === "running" && seen.error === null && (yield* live)) return
        yield* Effect.sleep(sampleMillis)
      }
    })
    yield* Effect.timeoutOrElse(healed, {
      duration: healLimit,
      orElse: () => Effect.map(status, (seen) => void wrong.push(`did not heal: ${JSON.stringify(seen)}`))
    })
  }
  yield* Fiber.interrupt(sampling)
  const rested = yield* status
  const metrics = yield* Effect.result(ask("external", "GET /metrics"))
  if (rested?.status === "running" && rested.error === null) {
    for (const { answer, what } of calls.filter(({ what }) => !what.startsWith("terminate"))) {
      const reply = yield* Effect.timeoutOption(Fiber.await(answer), "5 seconds")
      expect(Option.isSome(reply), `${what} is not answered, although the node has nothing to do`)
    }
  }
  if (rested?.status === "running" && rested.error === null && Result.isSuccess(metrics)) {
    expect(/^compute_ctl_up\{.*status="running"\} 1$/mu.test(metrics.success.text), "the gauge tells another status")
    for (const { answer, marker, what } of calls.filter(({ what }) => what === "configure role")) {
      const reply = answer.pollUnsafe()
      if (
        reply === undefined ||
        Exit.isFailure(reply) ||
        Result.isFailure(reply.value) ||
        reply.value.success.status !== 200
      )
        continue
      const there = yield* value(`SELECT count(*) FROM pg_roles WHERE rolname = 'r${marker}'`)
      expect(there === "1", `${what} was answered with 200, and its role r${marker} is not there`)
    }
  }

  // --- the end ---

  yield* call("end", ask("external", "POST /terminate?mode=immediate"))
  yield* until("it says what became of it", (seen) => seen?.status === "terminated" || seen === undefined)
  yield* node.hurry
  const code = yield* Effect.timeoutOption(node.exit, answerLimit)
  expect(Option.isSome(code), "the node did not end")
  const lsns = new Set<string>()
  for (const { answer, what } of calls) {
    const reply = yield* Effect.timeoutOption(Fiber.join(answer), answerLimit)
    if (Option.isNone(reply)) {
      wrong.push(`${what} was never answered`)
      continue
    }
    if (Result.isFailure(reply.value)) continue // it came too late
    const { json, status: answered } = reply.value.success
    const [kind = ""] = what.split(" ")
    expect((allowed[kind] ?? [200, 201, 412, 500]).includes(answered), `${what} was answered with ${answered}`)
    const lsn = decodeLsn(json)
    if (Option.isSome(lsn)) lsns.add(String(lsn.value.lsn))
  }
  expect(lsns.size < 2, `callers of /terminate got several positions: ${[...lsns].join(", ")}`)
  const log = node.log()
  wrong.push(...illegalMoves(log), ...node.complaints())
  wrong.push(
    ...log.split("\n").filter((line) => /uncaught|invalid compute status/u.test(line) && !line.includes("HTTP{"))
  )
  const killed = steps.some(([word]) => word.startsWith("kill"))
  const detached = moves(log).some(([from, to]) => from === "refresh-configuration" && to.startsWith("termination"))
  if (!killed && !detached) {
    expect(Option.getOrNull(code) === 0, `exit code ${Option.getOrNull(code)}`)
  }
  if (wrong.length > 0) return yield* Effect.die(new Error([...wrong, "", log].join("\n")))
  return moves(log)
})
