/**
 * The log: one line a message on stderr, as the original writes it.
 *
 *     <RFC 3339 UTC, microseconds> <LEVEL, 5 wide> <span{key=value …}:…> <message> <key=value …>
 *
 * A write never throws and never waits. Lines of one turn of the event loop are one write. Where nobody reads, memory is
 * bounded: beyond 8 MiB lines are dropped, and counted in the next line that goes through.
 * Source: reference/startup §24.1.
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import type * as Tracer from "effect/Tracer"
import { describeLine } from "../domain/describe.ts"

const bufferLimitBytes = 8 * 1024 * 1024
/** Characters that are not held back until the end of the turn. */
const batchLimit = 64 * 1024

const error = 4
const info = 2
const ranks: ReadonlyMap<string, number> = new Map([
  ["trace", 0],
  ["debug", 1],
  ["info", info],
  ["warn", 3],
  ["error", error],
  ["off", 5]
])

/** Filter of `RUST_LOG`: the lowest rank that is written, for all and by target. */
interface Filter {
  readonly fallback: number
  readonly targets: ReadonlyMap<string, number>
}

/**
 * Directives separated by commas: a level for all (`info`), or `target=level`. What is not understood is skipped, as are
 * directives for spans.
 */
const parseFilter = (text: string | undefined): Filter => {
  const targets = new Map<string, number>()
  let fallback: number | undefined
  for (const directive of (text ?? "").split(",")) {
    const [target = "", level] = directive.split("=", 2)
    const rank = ranks.get((level ?? target).trim().toLowerCase())
    if (rank === undefined) continue
    if (level === undefined) fallback = rank
    else targets.set(target.trim(), rank)
  }
  return { fallback: fallback ?? (targets.size > 0 ? error : info), targets }
}

/** A target is matched by itself and by the modules above it: `http` lets `http::access` through. */
const threshold = (filter: Filter, target: unknown): number => {
  if (typeof target !== "string" || filter.targets.size === 0) return filter.fallback
  for (let at = target; at !== ""; at = at.slice(0, Math.max(0, at.lastIndexOf("::")))) {
    const rank = filter.targets.get(at)
    if (rank !== undefined) return rank
  }
  return filter.fallback
}

const labels: Record<LogLevel.LogLevel, readonly [text: string, rank: number]> = {
  All: ["TRACE", 0],
  Trace: ["TRACE", 0],
  Debug: ["DEBUG", 1],
  Info: [" INFO", info],
  Warn: [" WARN", 3],
  Error: ["ERROR", error],
  Fatal: ["ERROR", error],
  None: ["ERROR", error]
}

const bare = /^[^\s"=\p{Cc}]+$/u

const plain = (value: unknown): string => {
  if (typeof value !== "object" || value === null || Redacted.isRedacted(value)) return String(value)
  try {
    return JSON.stringify(value)
  } catch {
    return String(value) // a cycle, a bigint
  }
}

/** A value as it stands behind `key=`: quoted only where it would be misread. */
const field = (value: unknown): string => {
  const text = plain(value)
  return bare.test(text) ? text : JSON.stringify(text)
}

/** Span attributes are data, texts among them are quoted. */
const attribute = (value: unknown): string => (typeof value === "string" ? JSON.stringify(value) : field(value))

const spanContext = (span: Tracer.AnySpan | undefined): string => {
  if (span === undefined || span._tag === "ExternalSpan") return ""
  let attributes = ""
  for (const [key, value] of span.attributes) {
    attributes += `${attributes === "" ? "" : " "}${key}=${attribute(value)}`
  }
  const parent = spanContext(Option.getOrUndefined(span.parent))
  return attributes === "" ? `${parent}${span.name}:` : `${parent}${span.name}{${attributes}}:`
}

const reason = (one: Cause.Reason<unknown>): ReadonlyArray<string> => {
  switch (one._tag) {
    case "Fail":
      return [describeLine(one.error)]
    case "Die":
      return [one.defect instanceof Error && one.defect.stack !== undefined ? one.defect.stack : String(one.defect)]
    case "Interrupt":
      return []
  }
}

/** The begin of a timestamp is the same for a second. */
let second = Number.NaN
let secondText = ""

const timestamp = (nanos: bigint): string => {
  const micros = Number(nanos / 1000n)
  const now = Math.floor(micros / 1_000_000)
  if (now !== second) {
    second = now
    secondText = new Date(now * 1000).toISOString().slice(0, 20)
  }
  return `${secondText}${String(micros - now * 1_000_000 + 1_000_000).slice(1)}Z`
}

const format = (options: Logger.Options<unknown>, annotations: Readonly<Record<string, unknown>>): string => {
  const { cause, fiber, logLevel, message } = options
  let line = `${timestamp(fiber.getRef(Clock.Clock).currentTimeNanosUnsafe())} ${labels[logLevel][0]}`
  const spans = spanContext(fiber.cache.span)
  if (spans !== "") line += ` ${spans}`
  for (const part of Array.isArray(message) ? message : [message]) {
    const text = plain(part)
    if (text !== "") line += ` ${text}`
  }
  for (const key of Object.keys(annotations)) if (key !== "target") line += ` ${key}=${field(annotations[key])}`
  if (cause.reasons.length === 0) return line
  const reasons = cause.reasons.flatMap(reason)
  return reasons.length === 0 ? line : `${line} cause=${JSON.stringify(reasons.join("; "))}`
}

type Sink = NodeJS.WritableStream & { readonly writableLength: number }

let dropped = 0
let sink: Sink = process.stderr

/** What is to be written at the end of this turn of the event loop. */
const batch = { text: "", lines: 0 }

/** Writes what is held back. Before the process ends, and before something else writes to stderr. */
export const flush = (): void => {
  if (batch.lines === 0) return
  const { lines, text } = batch
  batch.text = ""
  batch.lines = 0
  try {
    sink.write(text)
  } catch {
    dropped += lines // the disk under a file is full
  }
}

/** From now on the log goes to another stream. */
export const redirect = (stream: Sink): void => {
  flush()
  sink = stream
}

/** Writes one line (without its end) to the log as it is. Complete or not at all; never throws. */
export const writeRaw = (line: string): void => {
  if (sink.writableLength + batch.text.length > bufferLimitBytes) {
    dropped++
    return
  }
  if (batch.lines === 0) setImmediate(flush)
  if (dropped > 0) batch.text += `${dropped} log lines were dropped: stderr is not read\n`
  dropped = 0
  batch.text += `${line}\n`
  batch.lines++
  if (batch.text.length > batchLimit) flush()
}

const ignore = (): void => {}

/** Lines as events of the current span. Without a tracer nobody would ever see them. */
const events = Logger.make<unknown, void>((entry) => {
  if (entry.fiber.cache.tracer !== undefined) Logger.tracerLogger.log(entry)
})

export interface LoggingOptions {
  /** The text of `RUST_LOG`; `info` when there is none. */
  readonly rustLog: string | undefined
  /** Takes a line without its end; stderr by default. */
  readonly write?: (line: string) => void
}

/**
 * Replaces the stock loggers. Log lines become events of the current span too, where spans are traced. An annotation `target` is not printed: it
 * selects the level.
 */
export const layer = (options: LoggingOptions): Layer.Layer<never> => {
  const filter = parseFilter(options.rustLog)
  const write = options.write ?? writeRaw
  // A reader that is gone (EPIPE) must not end the process.
  if (!process.stderr.listeners("error").includes(ignore)) {
    process.stderr.on("error", ignore)
    process.on("exit", flush)
  }
  const text = Logger.make<unknown, void>((entry) => {
    const annotations = entry.fiber.getRef(References.CurrentLogAnnotations)
    const { target } = annotations
    if (labels[entry.logLevel][1] < threshold(filter, target)) return
    write(format(entry, annotations))
  })
  return Layer.mergeAll(
    Logger.layer([text, events]),
    Layer.succeed(References.MinimumLogLevel, "Trace") // the filter decides
  )
}
