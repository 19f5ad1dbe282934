/** COPY OUT with the planned faults of its payload. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Backend from "./backendMessages.ts"
import { noise, type PgFault, type Planned } from "./Faults.ts"
import type { Connection } from "./PgConnection.ts"
import { drop } from "./pgHandshake.ts"
import { QueryError } from "./QueryError.ts"

/** Applies what delays a conversation, makes it fail, or ends it. */
export const applyFault = Effect.fnUntraced(function* (connection: Connection, { plan, released }: Planned<PgFault>) {
  switch (plan.do) {
    case "delay":
      return yield* Effect.sleep(plan.millis)
    case "error":
      return yield* new QueryError({
        kind: "Other",
        message: plan.message,
        ...(plan.sqlstate === undefined ? {} : { sqlstate: plan.sqlstate })
      })
    case "hang":
      yield* Effect.raceFirst(Deferred.await(released), connection.closed)
      return yield* drop("injected hang")
    case "garbage":
      yield* connection.send(noise(64))
      return yield* drop("injected garbage")
    case "reset":
      yield* connection.reset
      return yield* drop("injected reset")
    default:
      return yield* drop(`injected ${plan.do}`)
  }
})

const afterBytes = (plan: PgFault): number => (plan.at === "payload" && plan.do !== "drip" ? (plan.afterBytes ?? 0) : 0)

/** Sends the payload as CopyData, as the faults shape it. `onSent` is told the bytes of each piece. */
export const sendPayload = Effect.fnUntraced(function* (
  connection: Connection,
  source: AsyncIterable<Uint8Array>,
  faults: ReadonlyArray<Planned<PgFault>>,
  onSent: (bytes: number) => void
) {
  const chunks = yield* Effect.acquireRelease(
    Effect.sync(() => source[Symbol.asyncIterator]()),
    (iterator) => Effect.promise(async () => iterator.return?.())
  )
  const next = Effect.tryPromise({
    try: () => chunks.next(),
    catch: (cause) => new QueryError({ kind: "Other", message: `reading the payload failed: ${String(cause)}` })
  })
  const pace = faults.map(({ plan }) => plan).find((plan) => plan.do === "drip")
  const breaker = faults.find(({ plan }) => plan.do !== "drip")
  const limit = breaker === undefined ? Number.POSITIVE_INFINITY : afterBytes(breaker.plan)

  const sendPiece = (data: Uint8Array) => {
    if (data.length === 0) return Effect.void
    onSent(data.length)
    return connection.send(Backend.copyData(data))
  }
  const send = Effect.fnUntraced(function* (data: Uint8Array) {
    if (pace === undefined) return yield* sendPiece(data)
    for (let at = 0; at < data.length; at += pace.bytes) {
      yield* sendPiece(data.subarray(at, at + pace.bytes))
      yield* Effect.sleep(pace.millis)
    }
  })

  let sent = 0
  let broken = false
  for (let chunk = yield* next; chunk.done !== true; chunk = yield* next) {
    let data = chunk.value
    if (!broken && breaker !== undefined && sent + data.length > limit) {
      broken = true
      yield* send(data.subarray(0, limit - sent))
      data = data.subarray(limit - sent)
      sent = limit
      if (breaker.plan.do === "truncate") return
      if (breaker.plan.do !== "garbage") yield* applyFault(connection, breaker)
    }
    yield* send(broken && breaker?.plan.do === "garbage" ? noise(data.length, sent) : data)
    sent += data.length
  }
}, Effect.scoped)
