/**
 * A fleet that loses its pageserver at once, in virtual time.
 *
 * The model. Every node has sessions that read from the pageserver; from the moment at which the first of them has
 * noticed the loss (evenly spread over `noticeMillis`) its Postgres notifies `notificationsPerSecond` times a second, until
 * the node has the new address. The first notification starts an attempt, which is one request; notifications while it is
 * on its way, or before the next one is due, change nothing. When to try again says the schedule.
 *
 * The control plane has a token bucket: `perSecond` requests a second, and the same for `burstSeconds` at once. It answers a
 * request within `answerMillis`; beyond its limit it refuses with 503 within `refuseMillis`. Refusing costs it nothing, it
 * knows the new address from the beginning, and for the first `outage` seconds it refuses everything. A node that was
 * answered is healed.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"

export const model = {
  nodes: 10_000,
  noticeMillis: 1000,
  notificationsPerSecond: 1,
  perSecond: 200,
  burstSeconds: 0.1,
  answerMillis: 20,
  refuseMillis: 5,
  /** What is looked at, at most. */
  horizonMillis: 600_000
} as const

/** When an attempt that has failed is followed by another one. */
export type RetrySchedule = Schedule.Schedule<unknown, unknown>

export interface Outcome {
  /** Requests that arrived in each second. */
  readonly requests: ReadonlyArray<number>
  /** Seconds until that share of the nodes was healed; undefined: not within the horizon. */
  readonly healed: (share: number) => number | undefined
}

/** Events in the order of their times. */
class Agenda {
  private readonly heap: Array<readonly [at: number, node: number]> = []

  add(at: number, node: number): void {
    const { heap } = this
    let index = heap.push([at, node]) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!this.swapIfLater(parent, index)) return
      index = parent
    }
  }

  next(): readonly [at: number, node: number] | undefined {
    const { heap } = this
    const [first] = heap
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    heap[0] = last
    for (let index = 0; ; ) {
      const left = 2 * index + 1
      const least = this.at(left + 1) < this.at(left) ? left + 1 : left
      if (!this.swapIfLater(index, least)) return first
      index = least
    }
  }

  private at(index: number): number {
    return this.heap[index]?.[0] ?? Number.POSITIVE_INFINITY
  }

  private swapIfLater(parent: number, child: number): boolean {
    const { heap } = this
    const [upper, lower] = [heap[parent], heap[child]]
    if (upper === undefined || lower === undefined || upper[0] <= lower[0]) return false
    heap[parent] = lower
    heap[child] = upper
    return true
  }
}

/**
 * Repeats itself exactly.
 *
 * @param outage seconds for which the control plane refuses everything
 */
export const simulate = (schedule: RetrySchedule, outage = 0): Effect.Effect<Outcome> =>
  Effect.gen(function* () {
    const agenda = new Agenda()
    const steps = yield* Effect.forEach(Array.from({ length: model.nodes }), () => Schedule.toStep(schedule))
    for (let node = 0; node < model.nodes; node++) {
      agenda.add((yield* Random.next) * model.noticeMillis, node)
    }
    const requests: Array<number> = []
    const healedAt: Array<number> = []
    const burst = model.perSecond * model.burstSeconds
    let tokens: number = burst
    let filledAt = 0
    for (let event = agenda.next(); event !== undefined; event = agenda.next()) {
      const [now, node] = event
      if (now > model.horizonMillis) break
      const second = Math.floor(now / 1000)
      requests[second] = (requests[second] ?? 0) + 1
      tokens = Math.min(burst, tokens + ((now - filledAt) / 1000) * model.perSecond)
      filledAt = now
      if (tokens >= 1 && now >= outage * 1000) {
        tokens--
        healedAt.push(now + model.answerMillis)
        continue
      }
      const refused = now + model.refuseMillis
      const again = yield* Effect.result(steps[node]?.(refused, undefined) ?? Effect.die("every node has a schedule"))
      // The schedule is used up: the next notification starts it over.
      const pause = again._tag === "Success" ? Duration.toMillis(again.success[1]) : 1000 / model.notificationsPerSecond
      if (again._tag === "Failure") steps[node] = yield* Schedule.toStep(schedule)
      agenda.add(refused + pause, node)
    }
    healedAt.sort((a, b) => a - b)
    return {
      requests: Array.from(requests, (count) => count ?? 0),
      healed: (share: number) => {
        const at = healedAt[Math.ceil(share * model.nodes) - 1]
        return at === undefined ? undefined : at / 1000
      }
    }
  }).pipe(Random.withSeed("fleet"))
