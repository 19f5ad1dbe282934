/** A node in this process: the program that `bin/compute_ctl` runs, without its bundle. */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { Writable } from "node:stream"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Tracer from "effect/Tracer"
import { compute } from "../../src/cli/compute.ts"
import { localAdmin } from "../../src/domain/ConnString.ts"
import type { ComputeNode } from "../../src/layers/ComputeNode.ts"
import * as Logging from "../../src/layers/Logging.ts"
import { Signals } from "../../src/layers/Signals.ts"
import type { Bed, StartOptions } from "../support/bed.ts"
import { markVariable } from "../support/leftovers.ts"
import { nodeParams } from "../support/params.ts"
import type { Subject } from "./drive.ts"

/** Work that only the one worker does. */
const exclusive = new Set(["reconfigure", "pull_spec"])

/** Spans that were begun while another of them was not over. */
const watchWorker = () => {
  const busy = new Set<string>()
  const overlaps: Array<string> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      if (!exclusive.has(options.name)) return span
      if (busy.size > 0) overlaps.push(`${options.name} began during ${[...busy].join(", ")}`)
      const id = `${options.name} ${span.spanId}`
      busy.add(id)
      const { end } = Tracer.NativeSpan.prototype
      span.end = (time, exit) => {
        busy.delete(id)
        end.call(span, time, exit)
      }
      return span
    }
  })
  return { tracer, overlaps }
}

/** Starts a node; one that still runs when the Scope ends is ended then. */
export const startInProcess = Effect.fnUntraced(function* (bed: Bed, options: StartOptions) {
  const at = yield* bed.place()
  yield* bed.publish(options)
  const { controlPlane, keys, stub } = bed.storage
  const params = nodeParams({
    computeId: bed.computeId(),
    pgdata: at.pgdata,
    postgres: localAdmin(at.port),
    pgbin: stub.postgres,
    source: { _tag: "ControlPlane", uri: controlPlane.url, token: controlPlane.token },
    externalHttpPort: at.externalPort,
    internalHttpPort: at.internalPort,
    environment: { PATH: "/usr/bin:/bin", TMPDIR: join(bed.directory, "tmp"), [markVariable]: bed.directory }
  })
  // A signal that came after the end of the one before is not meant for this one.
  yield* Effect.scoped(Layer.build(Signals.layer))
  const lines: Array<string> = []
  const write = (line: string): void => {
    if (!line.includes('http.request.method="GET"')) lines.push(line)
  }
  // What Postgres says goes there directly.
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      Logging.redirect(new Writable({ write: (text, _, done) => done(void write(String(text).trimEnd())) }))
    ),
    () => Effect.sync(() => Logging.redirect(process.stderr))
  )
  const exit = Deferred.makeUnsafe<number | null>()
  const here = Deferred.makeUnsafe<ComputeNode["Service"]>()
  let over = false
  const { overlaps, tracer } = watchWorker()
  const logging = Logging.layer({ rustLog: undefined, write })
  const boot = { rustLog: undefined, traceparent: undefined, tracestate: undefined, otel: {} }
  yield* compute(params, boot, (node) => Deferred.succeed(here, node)).pipe(
    Effect.provideService(Tracer.Tracer, tracer),
    Effect.provide(logging),
    Effect.onExit((result) =>
      Effect.sync(() => {
        over = true
        if (Exit.isFailure(result)) lines.push(`uncaught: ${result.cause}`)
        Deferred.doneUnsafe(exit, Exit.succeed(Exit.isSuccess(result) ? result.value : null))
      })
    ),
    Effect.ignore,
    Effect.forkScoped
  )
  const node = yield* Effect.raceFirst(
    Deferred.await(here),
    Effect.flatMap(Deferred.await(exit), () => Effect.die(new Error(`it did not start\n${lines.join("\n")}`)))
  )
  const subject: Subject = {
    ...at,
    token: yield* keys.computeToken(bed.computeId()),
    log: () => lines.join("\n"),
    exit: Deferred.await(exit),
    isOver: () => over,
    hurry: Effect.sync(() => void process.emit("SIGTERM", "SIGTERM")),
    postmaster: Effect.promise(async () =>
      Number((await fs.readFile(join(at.pgdata, "postmaster.pid"), "utf8")).split("\n")[0])
    ),
    certificate: node.certificateChanged.pipe(Effect.ignore, Effect.provide(logging)),
    complaints: () => overlaps
  }
  return {
    ...subject,
    node,
    /** For what the test itself does to the node. */
    logging
  }
})
