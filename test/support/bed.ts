/**
 * Test bed: a directory, the emulated storage in this process, and nodes that are started on it.
 *
 * When the Scope of a bed ends, its nodes are ended, the storage is closed, and nothing may be left: no process, no
 * listening socket, no temporary file, no lock.
 */
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Owner from "../../src/layers/Owner.ts"
import * as LocalStorage from "../../src/local/LocalStorage.ts"
import * as Compute from "./compute.ts"
import { leftovers, markVariable, processesOf } from "./leftovers.ts"
import { freePort } from "./ports.ts"

/** Binaries and templates, shared by all tests and files. */
const cacheDir = join(tmpdir(), `compute-ctl-tests-${process.getuid?.() ?? 0}`)

export type Json = Readonly<Record<string, unknown>>

export interface Document {
  readonly spec: Json
  readonly compute_ctl_config: Json
}

export interface StartOptions {
  /** Nodes of one bed by name: each has its own PGDATA and ports, which a restart finds again. */
  readonly name?: string
  /** Members of the spec that differ from those of the base document; undefined removes one. */
  readonly spec?: Json
  /** Lines of the spec's postgresql.conf after those of the base document. */
  readonly conf?: string
  /** `cluster.settings`. */
  readonly settings?: ReadonlyArray<{
    readonly name: string
    readonly value: string | null
    readonly vartype: string
  }>
  /** The last word on the document; a text is taken as it is. */
  readonly document?: (document: Document) => unknown
  /** `controlPlane`: the emulated one, where the document is attached first. */
  readonly source?: "configFile" | "specFile" | "controlPlane" | "controlPlaneAsItIs" | "none"
  /** Options of the command line by name; undefined removes one, `""` stands for a flag without value. */
  readonly args?: Readonly<Record<string, string | undefined>>
  readonly env?: Readonly<Record<string, string>>
  /** The process finds its stdin closed. */
  readonly closedInput?: boolean
}

interface Place {
  readonly pgdata: string
  readonly port: number
  readonly externalPort: number
  readonly internalPort: number
}

export interface Bed {
  /** Everybody may enter it. */
  readonly directory: string
  /** Runs Postgres; undefined: this process' own user. */
  readonly user: Owner.User | undefined
  readonly storage: LocalStorage.LocalStorage["Service"]
  readonly place: (name?: string) => Effect.Effect<Place>
  readonly computeId: (name?: string) => string
  /** Bearer token of the external server of a node. */
  readonly token: (name?: string) => Effect.Effect<string>
  /** The document that `start` would use. */
  readonly document: (options?: StartOptions) => Effect.Effect<Document>
  readonly start: (options?: StartOptions) => ReturnType<typeof Compute.start>
  /** Puts the document where a node that was started with the same options looks for it. */
  readonly publish: (options: StartOptions) => Effect.Effect<Readonly<Record<string, string>>>
  /** `start`, and wait for `running`. */
  readonly run: (options?: StartOptions) => ReturnType<typeof Compute.start>
  /** A start that must fail: the error on `/status`. The node is ended. */
  readonly failure: (options?: StartOptions) => Effect.Effect<string, never, Scope.Scope>
  /** A new directory that Postgres may write to. */
  readonly writable: (name: string) => Effect.Effect<string>
  /** A program in place of the stub, to be given as `--pgbin`: a shell script; `$stub` is the stub. */
  readonly wrapper: (script: string) => Effect.Effect<string>
}

export interface BedOptions {
  readonly pageservers?: number
  readonly safekeepers?: number
  /** Other binaries than those that come with the program. */
  readonly postgres?: NonNullable<LocalStorage.Options["postgres"]>
}

const defined = (members: Json): Json =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined))

const makeDirectory = Effect.promise(async () => {
  const directory = await fs.mkdtemp(join(tmpdir(), "compute-ctl-"))
  await fs.chmod(directory, 0o755)
  await fs.mkdir(join(directory, "tmp"))
  await fs.chmod(join(directory, "tmp"), 0o1777)
  return directory
})

/** Says what is left, and clears it away, so that other tests are not disturbed. */
const clearUp = (directory: string, ports: ReadonlyArray<number>) =>
  Effect.promise(async () => {
    const left = await leftovers({
      directory,
      ports,
      empty: [join(directory, "tmp")],
      gone: [join(directory, "storage/timelines/lock"), join(directory, "storage/run")]
    })
    for (const { pid } of await processesOf(directory)) process.kill(pid, "SIGKILL")
    await fs.rm(directory, { recursive: true, force: true, maxRetries: 5 })
    if (left.length > 0) throw new Error(`left behind:\n${left.join("\n")}`)
  })

/** A fresh bed with an empty cluster in its storage. */
export const makeBed = Effect.fnUntraced(function* (bedOptions: BedOptions = {}) {
  const ports: Array<number> = []
  const directory = yield* Effect.acquireRelease(makeDirectory, (path) => clearUp(path, ports))
  const user = yield* Owner.resolve(undefined)
  const storage = yield* LocalStorage.make({ dataDir: join(directory, "storage"), user, cacheDir, ...bedOptions })
  const { stub, controlPlane, keys } = storage
  // Nodes are pointed at any of them.
  for (const pageserver of storage.pageservers) pageserver.attach(storage)

  const places = new Map<string, Promise<Place>>()
  const findPlace = async (name: string): Promise<Place> => {
    const [port, externalPort, internalPort] = [await freePort(), await freePort(), await freePort()]
    ports.push(port, externalPort, internalPort)
    await fs.mkdir(join(directory, name))
    return { pgdata: join(directory, name, "pgdata"), port, externalPort, internalPort }
  }
  const place = (name = "node") =>
    Effect.promise(() => {
      const known = places.get(name) ?? findPlace(name)
      places.set(name, known)
      return known
    })

  const computeId = (name = "node"): string => `ep-${name}`

  const document = Effect.fnUntraced(function* (options: StartOptions = {}) {
    const { port } = yield* place(options.name)
    const base = yield* storage.documentFor({ port })
    const { cluster } = base.spec ?? {}
    const made: Document = {
      spec: defined({
        ...base.spec,
        cluster: {
          ...cluster,
          settings: options.settings ?? null,
          postgresql_conf: `${cluster?.postgresql_conf ?? ""}${options.conf ?? ""}\n`
        },
        endpoint_id: computeId(options.name),
        skip_pg_catalog_updates: true,
        ...options.spec
      }),
      compute_ctl_config: { ...base.compute_ctl_config }
    }
    return made
  })

  /** Returns the options of the command line. */
  const publish: Bed["publish"] = Effect.fnUntraced(function* (options) {
    const id = computeId(options.name)
    const made = yield* document(options)
    const final = options.document?.(made) ?? made
    const text = (content: unknown) => (typeof content === "string" ? content : JSON.stringify(content))
    const write = (content: unknown) =>
      Effect.promise(async () => {
        const path = join(directory, `${options.name ?? "node"}.json`)
        await fs.writeFile(path, text(content))
        return path
      })
    switch (options.source ?? "configFile") {
      case "configFile":
        return { "--config": yield* write(final) }
      case "specFile":
        return { "--spec-path": yield* write(options.document === undefined ? made.spec : final) }
      case "controlPlane":
        controlPlane.answer(id, 200, JSON.stringify({ status: "attached", ...made }))
        return { "--control-plane-uri": controlPlane.url }
      case "controlPlaneAsItIs":
        return { "--control-plane-uri": controlPlane.url }
      case "none":
        return {}
    }
  })

  const start = Effect.fnUntraced(function* (options: StartOptions = {}) {
    const at = yield* place(options.name)
    const id = computeId(options.name)
    const args = {
      "--pgdata": at.pgdata,
      "--connstr": `postgresql://cloud_admin@127.0.0.1:${at.port}/postgres`,
      "--pgbin": stub.postgres,
      "--compute-id": id,
      "--external-http-port": String(at.externalPort),
      "--internal-http-port": String(at.internalPort),
      ...(yield* publish(options)),
      ...options.args
    }
    return yield* Compute.start({
      name: options.name ?? "node",
      pgdata: options.args?.["--pgdata"] ?? at.pgdata,
      port: at.port,
      externalPort: Number(args["--external-http-port"] ?? 3080),
      internalPort: Number(args["--internal-http-port"] ?? 3081),
      args: Object.entries(args).flatMap(([name, value]) =>
        value === undefined ? [] : value === "" ? [name] : [name, value]
      ),
      env: {
        PATH: "/usr/bin:/bin",
        HOME: "/",
        TMPDIR: join(directory, "tmp"),
        [markVariable]: directory,
        OTEL_SDK_DISABLED: "true",
        NEON_CONTROL_PLANE_TOKEN: Redacted.value(controlPlane.token),
        ...options.env
      },
      closedInput: options.closedInput === true,
      token: yield* keys.computeToken(id)
    })
  })

  let wrappers = 0
  const bed: Bed = {
    directory,
    user,
    storage,
    place,
    computeId,
    token: (name) => Effect.map(keys.computeToken(computeId(name)), Redacted.value),
    document,
    publish,
    start,
    run: (options) => Effect.tap(start(options), (node) => node.waitFor("running")),
    failure: Effect.fnUntraced(function* (options) {
      const node = yield* start(options)
      const { error } = yield* node.waitFor("failed")
      yield* node.terminate("immediate")
      yield* node.exit
      return error ?? ""
    }),
    writable: (name) =>
      Effect.promise(async () => {
        const path = join(directory, name)
        await fs.mkdir(path)
        await fs.chmod(path, 0o777)
        return path
      }),
    wrapper: (script) =>
      Effect.promise(async () => {
        const path = join(directory, `wrapper-${++wrappers}`, "postgres")
        await fs.mkdir(join(path, ".."))
        await fs.writeFile(path, `#!/bin/sh\nstub='${stub.postgres}'\n${script}\n`, { mode: 0o755 })
        return path
      })
  }
  return bed
})
