/**
 * Child process of the benchmark: the emulated storage, away from the event loop that measures.
 *
 *     node storage.ts DATA_DIR CACHE_DIR
 *
 * Serves requests of `protocol.ts`, one at a time, until the parent is gone.
 */
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Lsn from "../../src/domain/Lsn.ts"
import * as Owner from "../../src/layers/Owner.ts"
import * as LocalStorage from "../../src/local/LocalStorage.ts"
import type { Status } from "../../src/local/Safekeeper.ts"
import { newest } from "../../src/local/Store.ts"
import { attachedCompute, type Documented, type Ending, emptyCompute, type Ready, Request } from "./protocol.ts"

const [, , dataDir = "", cacheDir = ""] = process.argv

/**
 * The program to measure with: the real one behind a shell that answers `--sync-safekeepers` from a file, because on a
 * busy machine the safekeepers may be too late for the quorum.
 */
const plain = { program: join(dataDir, "postgres"), position: join(dataDir, "position") }

const writePlain = (real: string) =>
  Effect.promise(() =>
    fs.writeFile(
      plain.program,
      `#!/bin/sh\n[ "$1" = --sync-safekeepers ] && exec cat '${plain.position}'\nexec '${real}' "$@"\n`,
      { mode: 0o755 }
    )
  )

const reply = (message: Ready | Documented | { readonly done: true }): Effect.Effect<void> =>
  Effect.callback((resume) => {
    // A parent that is gone is noticed by `disconnect`.
    process.send?.(message, undefined, undefined, () => resume(Effect.void))
  })

const serve = (storage: LocalStorage.LocalStorage["Service"]) => {
  const say = (status: Status): void => {
    for (const safekeeper of storage.safekeepers) safekeeper.setStatus(status)
  }
  const base = Effect.map(storage.store.timeline(storage), newest)

  const document = Effect.fnUntraced(function* (port: number) {
    const from = yield* base
    yield* Effect.promise(() => fs.writeFile(plain.position, `${Lsn.format(from.lsn)}\n`))
    storage.stub.faults.clear()
    say({ _tag: "Fixed", flush: from.lsn, commit: from.lsn })
    const { spec, ...rest } = yield* storage.documentFor({ port })
    // The floor has no catalog to look after either.
    const config = JSON.stringify({ ...rest, spec: { ...spec, skip_pg_catalog_updates: true } })
    yield* reply({ config, archive: storage.store.archive(storage, from, true) })
  })

  const end = Effect.fnUntraced(function* (ending: Ending) {
    if (ending !== "agree") say({ _tag: "Unknown" })
    if (ending === "stub") {
      storage.stub.faults.add({ at: "sync", do: "print", text: Lsn.format((yield* base).lsn) })
    }
    yield* reply({ done: true })
  })

  const attach = Effect.fnUntraced(function* (config: string) {
    const body = `{"status":"attached",${config.slice(1)}`
    storage.controlPlane.answer(attachedCompute, 200, body)
    yield* reply({ done: true })
  })

  return (request: Request) => {
    switch (request._tag) {
      case "Document":
        return document(request.port)
      case "End":
        return end(request.ending)
      case "Attach":
        return attach(request.config)
    }
  }
}

const main = Effect.gen(function* () {
  const requests = yield* Queue.unbounded<unknown, Cause.Done>()
  process.on("message", (message) => Queue.offerUnsafe(requests, message))
  process.once("disconnect", () => Queue.endUnsafe(requests))
  const user = yield* Owner.resolve(undefined)
  const storage = yield* LocalStorage.make({ dataDir, cacheDir, user })
  storage.controlPlane.empty(emptyCompute, [storage.keys.computeJwk])
  const answer = serve(storage)
  yield* writePlain(join(storage.install.bindir, "postgres"))
  yield* reply({
    version: storage.install.version,
    postgres: plain.program,
    stub: storage.stub.postgres,
    controlPlane: storage.controlPlane.url,
    controlPlaneToken: Redacted.value(storage.controlPlane.token),
    token: Redacted.value(yield* storage.keys.adminToken)
  })
  yield* Queue.take(requests).pipe(
    Effect.flatMap(Schema.decodeUnknownEffect(Request)),
    Effect.flatMap(answer),
    Effect.forever,
    Effect.catchIf(Cause.isDone, () => Effect.void)
  )
})

NodeRuntime.runMain(Effect.scoped(main))
