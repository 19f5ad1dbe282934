import { spawn } from "node:child_process"
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Logging from "../../src/layers/Logging.ts"

/** What the effect logs, one text a line. */
const log = async (effect: Effect.Effect<unknown>, rustLog?: string): Promise<ReadonlyArray<string>> => {
  const lines: Array<string> = []
  const layer = Logging.layer({ rustLog, write: (line) => lines.push(line) })
  await Effect.runPromise(Effect.provide(effect, layer))
  return lines.map((line) => line.replace(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z /u, "<time> "))
}

describe("a line of the log", () => {
  it("is time, level, spans with their fields, message, fields", async () => {
    const request = Effect.logInfo("POST /configure").pipe(
      Effect.annotateLogs({ request_id: "abc", code: 200 }),
      Effect.withSpan("start_compute"),
      Effect.withSpan("HTTP", { attributes: { "http.request.method": "POST", "network.protocol.version": 1.1 } })
    )
    expect(await log(request)).toEqual([
      '<time>  INFO HTTP{http.request.method="POST" network.protocol.version=1.1}:start_compute: POST /configure request_id=abc code=200'
    ])
  })

  it("has levels of one width", async () => {
    const all = Effect.all([
      Effect.logTrace("a"),
      Effect.logDebug("b"),
      Effect.logInfo("c"),
      Effect.logWarning("d"),
      Effect.logError("e"),
      Effect.logFatal("f")
    ])
    expect(await log(all, "trace")).toEqual(
      ["TRACE a", "DEBUG b", " INFO c", " WARN d", "ERROR e", "ERROR f"].map((text) => `<time> ${text}`)
    )
  })

  it("quotes fields that would be misread, and is one line whatever they hold", async () => {
    const fields = { empty: "", spaces: "a b", lines: "a\nb", quotes: '"', list: [1, "x"], nothing: null, big: 7n }
    expect(await log(Effect.annotateLogs(Effect.logInfo("x"), fields))).toEqual([
      '<time>  INFO x empty="" spaces="a b" lines="a\\nb" quotes="\\"" list="[1,\\"x\\"]" nothing=null big=7'
    ])
  })

  it("without a message has the fields alone", async () => {
    expect(await log(Effect.annotateLogs(Effect.logInfo(""), { code: 200 }))).toEqual(["<time>  INFO code=200"])
  })

  it("tells causes: errors by their messages, defects with their stack", async () => {
    const error = new Error("outer", { cause: new Error("inner") })
    const [failure = ""] = await log(Effect.logError("x", Cause.fail(error)))
    expect(failure).toBe('<time> ERROR x cause="outer: inner"')
    const [defect = ""] = await log(Effect.logError("x", Cause.die(error)))
    expect(defect).toMatch(/^<time> ERROR x cause="Error: outer\\n +at .*"$/u)
  })

  it("never shows what is redacted", async () => {
    const secret = Redacted.make("s3cr3t")
    const [line = ""] = await log(Effect.logInfo("x", secret, { secret }).pipe(Effect.annotateLogs({ secret })))
    expect(line).not.toContain("s3cr3t")
    expect(line).toContain("secret=<redacted>")
  })
})

describe("RUST_LOG", () => {
  const some = Effect.all([
    Effect.logDebug("debug"),
    Effect.logInfo("info"),
    Effect.logWarning("warn"),
    Effect.annotateLogs(Effect.logDebug("http debug"), "target", "http"),
    Effect.annotateLogs(Effect.logDebug("access debug"), "target", "http::access"),
    Effect.annotateLogs(Effect.logWarning("other warn"), "target", "other")
  ])
  const messages = async (rustLog?: string) =>
    (await log(some, rustLog)).map((line) => line.replace(/^<time> .{5} /u, "").trimEnd())

  it.each([
    [undefined, ["info", "warn", "other warn"]],
    ["", ["info", "warn", "other warn"]],
    ["WARN", ["warn", "other warn"]],
    ["off", []],
    ["nonsense,=,x=y", ["info", "warn", "other warn"]],
    ["info,http=debug,other=off", ["info", "warn", "http debug", "access debug"]],
    ["http::access=debug", ["access debug"]],
    ["debug,http=error", ["debug", "info", "warn", "other warn"]]
  ])("%s", async (rustLog, expected) => {
    expect(await messages(rustLog)).toEqual(expected)
  })
})

/** Runs a program of its own; its exit code, stdout and stderr. `reader`: what becomes of its log. */
const run = (body: string, reader: "reads" | "ignores" | "is gone") =>
  new Promise<readonly [code: number | null, stdout: string, stderr: string]>((resolve) => {
    const script = `
      import * as Effect from "effect/Effect"
      import * as Logging from "${new URL("../../src/layers/Logging.ts", import.meta.url).pathname}"
      ${body}`
    const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", script])
    const texts = { stdout: "", stderr: "" }
    child.stdout.on("data", (data) => {
      texts.stdout += String(data)
    })
    if (reader === "reads") {
      child.stderr.on("data", (data) => {
        texts.stderr += String(data)
      })
    } else {
      if (reader === "is gone") child.stderr.destroy()
      child.once("exit", () => child.stderr.destroy())
    }
    child.once("close", (code) => resolve([code, texts.stdout, texts.stderr]))
  })

describe("stderr", () => {
  it("gets the lines, those of Postgres as they are and whatever the filter says", async () => {
    const program = `
      Logging.writeRaw("PG:2026-11-21 08:49:07 LOG:  ready\\u200bmore")
      Effect.runFork(Effect.provide(Effect.logError("x"), Logging.layer({ rustLog: "error" })))
      Effect.runFork(Effect.provide(Effect.logError("y"), Logging.layer({ rustLog: "off" })))`
    const [code, , stderr] = await run(program, "reads")
    expect(code).toBe(0)
    expect(stderr).toMatch(/^PG:2026-11-21 08:49:07 LOG: {2}ready\u200bmore\n\d{4}-[^ ]+Z ERROR x\n$/u)
  })

  it("gets what was said last, also where the process is ended at once", async () => {
    const program = `
      Effect.runFork(Effect.provide(Effect.logInfo("x"), Logging.layer({ rustLog: "info" })))
      process.exit(3)`
    const [code, , stderr] = await run(program, "reads")
    expect(code).toBe(3)
    expect(stderr).toMatch(/ INFO x\n$/u)
  })

  it("gets the lines of one turn of the event loop in one piece, those of another stream stay there", async () => {
    const program = `
      const said = (name) => ({ writableLength: 0, write: (text) => process.stdout.write(JSON.stringify([name, text]) + "\\n") })
      Logging.redirect(said("first"))
      Logging.writeRaw("a")
      Logging.writeRaw("b")
      Logging.redirect(said("second"))
      Logging.writeRaw("c")
      setTimeout(() => Logging.writeRaw("d"), 50)`
    const [, stdout] = await run(program, "reads")
    expect(
      stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
    ).toEqual([
      ["first", "a\nb\n"],
      ["second", "c\n"],
      ["second", "d\n"]
    ])
  })

  const flood = `
    const line = "x".repeat(1000)
    const lines = Effect.gen(function* () {
      for (let i = 0; i < 50_000; i++) yield* Effect.logInfo(line)
      process.stdout.write(process.memoryUsage().rss < 400e6 ? "fine" : "too much", () => process.exit(0))
    })
    Effect.runFork(Effect.provide(lines, Logging.layer({ rustLog: undefined })))`

  it.each(["ignores", "is gone"] as const)("a reader that %s it stops nothing, and costs no memory", async (reader) => {
    expect(await run(flood, reader)).toEqual([0, "fine", ""])
  })

  it("a reader that comes back is told what was lost", async () => {
    const program = `
      Effect.runFork(Effect.provide(Effect.void, Logging.layer({ rustLog: undefined })))
      const line = "x".repeat(100_000)
      for (let i = 0; i < 200; i++) Logging.writeRaw(line)
      setTimeout(() => Logging.writeRaw("next"), 500)`
    const [code, , stderr] = await run(program, "reads")
    expect(code).toBe(0)
    expect(stderr).toMatch(/x\n\d+ log lines were dropped: stderr is not read\nnext\n$/u)
  })
})
