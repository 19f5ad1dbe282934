/**
 * What the emulated storage keeps: for each timeline some cold images, and the position they reach.
 *
 * A timeline is written to by one postmaster at a time. From the announcement of its start until its data directory was
 * published after a clean stop, the position is unknown. What a server that crashed had written since the last
 * publication is lost; the timeline then goes on from its newest image. Publications are atomic.
 *
 * Source: reference/storage-protocols §8.6, §8.7 (B).
 */
import { createHash } from "node:crypto"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Lsn from "../domain/Lsn.ts"
import { postmasterOf } from "../layers/processes.ts"
import * as ColdImage from "./ColdImage.ts"
import * as Catalogue from "./catalogue.ts"
import { hold } from "./ownerLock.ts"

import * as TimelineKey from "./TimelineKey.ts"

/** No such tenant, or no such timeline of it. */
export class TimelineNotFound extends Data.TaggedError("TimelineNotFound")<{
  readonly message: string
}> {}

/** Another postmaster writes to the timeline. */
export class TimelineBusy extends Data.TaggedError("TimelineBusy")<{
  readonly pgdata: string
  readonly message: string
}> {}

/** A timeline as it stands now. */
export interface Timeline extends TimelineKey.TimelineKey {
  readonly major: number
  readonly systemIdentifier: bigint
  /** Oldest first; there is always one. */
  readonly bases: readonly [Catalogue.Base, ...ReadonlyArray<Catalogue.Base>]
  /** Data directory of the postmaster that writes to it; undefined while none does. */
  readonly servedBy: string | undefined
}

/** The image that a timeline goes on from. */
export const newest = (timeline: Timeline): Catalogue.Base => timeline.bases.at(-1) ?? timeline.bases[0]

/** Where WAL ends; undefined while a postmaster writes. */
export const position = (timeline: Timeline): Lsn.Lsn | undefined =>
  timeline.servedBy === undefined ? newest(timeline).lsn : undefined

/** What a new timeline starts from. */
export interface Seed {
  /** Path of the archive. */
  readonly file: string
  readonly lsn: Lsn.Lsn
  readonly systemIdentifier: bigint
  readonly major: number
  /** See `controlHash`. */
  readonly control: string
}

type NotPublished =
  | TimelineNotFound
  | TimelineBusy
  | Catalogue.StoreFailed
  | ColdImage.NotPublishable
  | ColdImage.ImageFailed

export interface Store {
  readonly timelines: Effect.Effect<ReadonlyArray<Timeline>>
  readonly timeline: (key: TimelineKey.TimelineKey) => Effect.Effect<Timeline, TimelineNotFound>
  /** Makes a timeline that starts from an image; nothing happens where it is there already. */
  readonly create: (key: TimelineKey.TimelineKey, seed: Seed) => Effect.Effect<Timeline, Catalogue.StoreFailed>
  /** The timeline once an image reaches the position; undefined when none does within the limit. */
  readonly reached: (
    key: TimelineKey.TimelineKey,
    lsn: Lsn.Lsn,
    limit: Duration.Input
  ) => Effect.Effect<Timeline | undefined, TimelineNotFound>
  /** Path of the archive of an image, with its replication slots or without. */
  readonly archive: (key: TimelineKey.TimelineKey, base: Catalogue.Base, slots: boolean) => string
  /** A postmaster is about to start in a data directory: from now on the position is unknown. Standbys do not count. */
  readonly starting: (
    pgdata: string
  ) => Effect.Effect<void, TimelineNotFound | TimelineBusy | Catalogue.StoreFailed | ColdImage.NotPublishable>
  /**
   * What `postgres --sync-safekeepers` does here: publishes the stopped data directory and returns its position. Where the
   * directory has no cluster yet, the position is that of the newest image. Can be repeated.
   */
  readonly sync: (pgdata: string) => Effect.Effect<Lsn.Lsn, NotPublished>
}

/** Images kept for each timeline. */
const keptBases = 2

export const controlHash = (control: Buffer): string => createHash("sha256").update(control).digest("hex")

/** Which timeline a data directory belongs to, by its configuration. */
const keyOf = Effect.fnUntraced(function* (pgdata: string) {
  const path = join(pgdata, "postgresql.conf")
  const conf = yield* Catalogue.attempt("reading", path, () => fs.readFile(path, "utf8"))
  return yield* Effect.fromResult(Result.mapError(TimelineKey.fromConf(conf), (why) => ColdImage.refusal(pgdata, why)))
})

/** Opens the store in a directory, which nobody else may use until the Scope ends. */
export const open = Effect.fnUntraced(function* (directory: string) {
  yield* Catalogue.attempt("making", directory, () => fs.mkdir(directory, { recursive: true, mode: 0o700 }))
  yield* hold(directory)
  const writing = yield* Semaphore.make(1)

  const folder = (key: TimelineKey.TimelineKey): string => join(directory, key.tenantId, key.timelineId)

  const load = Effect.fnUntraced(function* (key: TimelineKey.TimelineKey) {
    const found = yield* Catalogue.read(folder(key))
    if (found === undefined) {
      // Its creation did not get to the end.
      yield* Catalogue.attempt("removing", folder(key), () => fs.rm(folder(key), { recursive: true, force: true }))
      return undefined
    }
    yield* Catalogue.sweep(folder(key), found.bases)
    const writer = found.served_by
    const served = writer !== undefined && (yield* Effect.promise(() => postmasterOf(writer))) !== undefined
    const timeline: Timeline = {
      ...key,
      major: found.pg_major,
      systemIdentifier: found.system_identifier,
      bases: found.bases,
      servedBy: served ? writer : undefined
    }
    return timeline
  })

  const loadAll = Effect.gen(function* () {
    const found = new Map<string, Timeline>()
    const names = (path: string) => Catalogue.attempt("reading", path, () => fs.readdir(path))
    for (const tenant of (yield* names(directory)).filter((name) => /^[0-9a-f]{32}$/u.test(name))) {
      for (const name of yield* names(join(directory, tenant))) {
        const key = TimelineKey.parse(tenant, name)
        const timeline = Result.isSuccess(key) ? yield* load(key.success) : undefined
        if (timeline !== undefined) found.set(TimelineKey.format(timeline), timeline)
      }
    }
    return found
  })

  const state = yield* SubscriptionRef.make<ReadonlyMap<string, Timeline>>(yield* loadAll)

  const find = (timelines: ReadonlyMap<string, Timeline>, key: TimelineKey.TimelineKey) => {
    const found = timelines.get(TimelineKey.format(key))
    if (found !== undefined) return Effect.succeed(found)
    const tenantKnown = [...timelines.values()].some((timeline) => timeline.tenantId === key.tenantId)
    return Effect.fail(
      new TimelineNotFound({
        message: tenantKnown ? `Timeline ${TimelineKey.format(key)} was not found` : `Tenant ${key.tenantId} not found`
      })
    )
  }
  const timeline = (key: TimelineKey.TimelineKey) => Effect.flatMap(SubscriptionRef.get(state), (all) => find(all, key))

  /** Disk first, then what others see. */
  const replace = Effect.fnUntraced(function* (changed: Timeline) {
    yield* Catalogue.write(folder(changed), {
      pg_major: changed.major,
      system_identifier: changed.systemIdentifier,
      bases: changed.bases,
      ...(changed.servedBy === undefined ? {} : { served_by: changed.servedBy })
    })
    yield* SubscriptionRef.update(state, (all) => new Map(all).set(TimelineKey.format(changed), changed))
    return changed
  })

  const create = Effect.fnUntraced(function* (key: TimelineKey.TimelineKey, seed: Seed) {
    const known = (yield* SubscriptionRef.get(state)).get(TimelineKey.format(key))
    if (known !== undefined) return known
    const base: Catalogue.Base = { lsn: seed.lsn, control: seed.control, slots: false }
    const bases = Catalogue.basesFolder(folder(key))
    yield* Catalogue.attempt("making", bases, async () => {
      await fs.mkdir(bases, { recursive: true, mode: 0o700 })
      const target = Catalogue.archivePath(folder(key), base, true)
      await fs.copyFile(seed.file, target, fs.constants.COPYFILE_FICLONE)
      await Catalogue.syncDirectory(bases)
    })
    const { systemIdentifier, major } = seed
    return yield* replace({ ...key, major, systemIdentifier, bases: [base], servedBy: undefined })
  }, writing.withPermit)

  const reached = (key: TimelineKey.TimelineKey, lsn: Lsn.Lsn, limit: Duration.Input) =>
    SubscriptionRef.changes(state).pipe(
      Stream.mapEffect((all) => find(all, key)),
      Stream.filter((found) => newest(found).lsn >= lsn),
      Stream.runHead,
      Effect.timeoutOrElse({ duration: limit, orElse: () => Effect.succeed(Option.none<Timeline>()) }),
      Effect.map(Option.getOrUndefined)
    )

  /** Nobody but the server of that directory may write. */
  const checkWriter = Effect.fnUntraced(function* (found: Timeline, pgdata: string) {
    const other = found.servedBy
    if (other === undefined || other === pgdata) return
    if ((yield* Effect.promise(() => postmasterOf(other))) === undefined) return
    return yield* new TimelineBusy({
      pgdata,
      message: `timeline ${TimelineKey.format(found)} is served by another Postgres, in ${other}`
    })
  })

  const starting = Effect.fnUntraced(function* (pgdata: string) {
    if (yield* Catalogue.exists(join(pgdata, "standby.signal"))) return
    const found = yield* Effect.flatMap(keyOf(pgdata), timeline)
    yield* checkWriter(found, pgdata)
    yield* replace({ ...found, servedBy: pgdata })
  }, writing.withPermit)

  /** Afterwards nobody writes to the timeline. */
  const settle = (found: Timeline) =>
    found.servedBy === undefined ? Effect.succeed(found) : replace({ ...found, servedBy: undefined })

  const store = Effect.fnUntraced(function* (target: string, source: ColdImage.Stopped, slots: boolean) {
    const aside = `${target}.part`
    yield* ColdImage.write({ source, target: aside, slots }).pipe(
      Effect.andThen(Catalogue.attempt("publishing", target, () => fs.rename(aside, target))),
      Effect.onError(() => Effect.promise(() => fs.rm(aside, { force: true })))
    )
  })

  const publish = Effect.fnUntraced(function* (found: Timeline, pgdata: string) {
    const source = yield* ColdImage.inspect(pgdata)
    if (source.control.systemIdentifier !== found.systemIdentifier || source.major !== found.major) {
      return yield* ColdImage.refusal(pgdata, "it is another cluster than the one of the timeline")
    }
    const last = newest(found)
    const base: Catalogue.Base = { lsn: source.lsn, control: controlHash(source.controlBytes), slots: source.slots }
    if (base.lsn === last.lsn && base.control === last.control) return yield* settle(found)
    if (base.lsn <= last.lsn) {
      return yield* ColdImage.refusal(
        pgdata,
        `it ends at ${Lsn.format(base.lsn)}, and the timeline has gone on to ${Lsn.format(last.lsn)} without it`
      )
    }
    const [withSlots, withoutSlots] = Catalogue.archivePaths(folder(found), base)
    if (withSlots !== undefined) yield* store(withSlots, source, true)
    if (withoutSlots !== undefined) yield* store(withoutSlots, source, false)
    const bases = Catalogue.basesFolder(folder(found))
    yield* Catalogue.attempt("publishing in", bases, () => Catalogue.syncDirectory(bases))
    const [first = base, ...rest] = [...found.bases, base].slice(-keptBases)
    const published = yield* replace({ ...found, bases: [first, ...rest], servedBy: undefined })
    yield* Catalogue.sweep(folder(found), published.bases)
    return published
  })

  const sync = Effect.fnUntraced(function* (pgdata: string) {
    const found = yield* Effect.flatMap(keyOf(pgdata), timeline)
    yield* checkWriter(found, pgdata)
    const hasCluster = yield* Catalogue.exists(join(pgdata, "global/pg_control"))
    return newest(yield* hasCluster ? publish(found, pgdata) : settle(found)).lsn
  }, writing.withPermit)

  const opened: Store = {
    timelines: Effect.map(SubscriptionRef.get(state), (all) => [...all.values()]),
    timeline,
    create,
    reached,
    archive: (key, base, slots) => Catalogue.archivePath(folder(key), base, slots),
    starting,
    sync
  }
  return opened
})
