/**
 * Makes PGDATA: empty directory, postgresql.conf, the LSN to start at, the base backup, what the base backup lacks.
 *
 * The configuration comes before the sync, because `postgres --sync-safekeepers` reads it; wiping the old directory and
 * asking the safekeepers have nothing to do with each other and run side by side.
 *
 * Source: reference/startup §10–§14.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { describeLine } from "../../domain/describe.ts"
import * as Lsn from "../../domain/Lsn.ts"
import { firstShardUrl } from "../../domain/PageserverConnection.ts"
import type { ParsedSpec } from "../../domain/ParsedSpec.ts"
import { ComputeNode } from "../../layers/ComputeNode.ts"
import { DataDirectory } from "../../layers/DataDirectory.ts"
import { Owner } from "../../layers/Owner.ts"
import { Pageserver } from "../../layers/Pageserver.ts"
import { Params } from "../../layers/Params.ts"
import * as schedules from "../../layers/schedules.ts"
import { renderConf } from "../renderConf.ts"
import { checkSynced, syncAtStart } from "../safekeepers.ts"
import { stage } from "./stages.ts"

/** The spec asks for something that this compute cannot do. The message names the field. */
export class Unsupported extends Data.TaggedError("Unsupported")<{ readonly message: string }> {}

/** No attempt brought a base backup. The cause is the last attempt's error. */
export class BasebackupGaveUp extends Data.TaggedError("BasebackupGaveUp")<{
  readonly message: string
  readonly cause: unknown
}> {}

const fetchBasebackup = (spec: ParsedSpec, lsn: Lsn.Lsn) =>
  Effect.gen(function* () {
    const params = yield* Params
    const owner = yield* Owner
    const node = yield* ComputeNode
    const pageserver = yield* Pageserver
    const directory = yield* DataDirectory
    if (spec.pageserver.prefer_protocol === "grpc") {
      return yield* new Unsupported({
        message: "pageserver_connection_info.prefer_protocol: base backups over gRPC are not supported yet, use libpq"
      })
    }
    const url = yield* Effect.fromResult(firstShardUrl(spec.pageserver))
    yield* Effect.logInfo(
      spec.storageAuthToken === undefined ? "Storage auth token not set" : "Got storage auth token from spec file"
    )
    let attempts = 0
    const attempt = Effect.suspend(() => (attempts++ === 0 ? Effect.void : directory.clean)).pipe(
      Effect.andThen(
        pageserver.basebackup({
          url,
          tenantId: spec.tenantId,
          timelineId: spec.timelineId,
          lsn,
          mode: modeName(spec),
          token: spec.storageAuthToken,
          pgdata: params.pgdata,
          owner: owner.user
        })
      ),
      Effect.withSpan("try_get_basebackup", { attributes: { lsn: Lsn.format(lsn) } })
    )
    const done = yield* attempt.pipe(
      Effect.tapError((error) =>
        Effect.logWarning(
          `Failed to get basebackup: ${describeLine(error)} (attempt ${attempts - 1}/${params.basebackupRetries})`
        )
      ),
      Effect.retry({
        schedule: schedules.basebackup(params.basebackupRetries),
        while: (error) => error._tag === "BasebackupFailed"
      }),
      Effect.mapError(
        (cause) => new BasebackupGaveUp({ message: `failed to get basebackup@${Lsn.format(lsn)}`, cause })
      )
    )
    yield* node.recordMetrics({
      pageserver_connect_micros: done.connectMicros,
      basebackup_bytes: done.bytes,
      basebackup_ms: done.millis
    })
  })

const modeName = (spec: ParsedSpec): "primary" | "static" | "replica" => {
  switch (spec.spec.mode._tag) {
    case "Primary":
      return "primary"
    case "Static":
      return "static"
    case "Replica":
      return "replica"
  }
}

const agreedLsn = (spec: ParsedSpec) =>
  spec.spec.mode._tag === "Primary" ? stage("check_safekeepers_synced")(checkSynced(spec)) : Effect.succeed(undefined)

/** The position of the base backup; `0/0` is the latest one. */
const startLsn = (spec: ParsedSpec, agreed: Lsn.Lsn | undefined) =>
  Effect.gen(function* () {
    const { mode } = spec.spec
    switch (mode._tag) {
      case "Primary": {
        const lsn = agreed ?? (yield* syncAtStart(spec))
        yield* Effect.logInfo(`safekeepers synced at LSN ${Lsn.format(lsn)}`)
        return lsn
      }
      case "Static":
        yield* Effect.logInfo(`Starting read-only node at static LSN ${Lsn.format(mode.lsn)}`)
        return mode.lsn
      case "Replica":
        yield* Effect.logInfo("Initializing standby from latest Pageserver LSN")
        return Lsn.zero
    }
  })

export const preparePgdata = (spec: ParsedSpec) =>
  Effect.gen(function* () {
    const directory = yield* DataDirectory
    const [agreed] = yield* Effect.all(
      [
        agreedLsn(spec),
        Effect.gen(function* () {
          const conf = yield* renderConf(spec)
          yield* stage("create_pgdata")(directory.recreate)
          yield* directory.writeConf(conf)
        })
      ],
      { concurrency: "unbounded" }
    )
    const lsn = yield* startLsn(spec, agreed)
    yield* fetchBasebackup(spec, lsn).pipe(stage("get_basebackup"))
    yield* directory.finish({ standby: spec.spec.mode._tag !== "Primary" })
  }).pipe(stage("prepare_pgdata"))
