import { type ChildProcessByStdio, spawn } from "node:child_process"
import { join } from "node:path"
import type { Readable } from "node:stream"
import * as timers from "node:timers/promises"
import { describe, expect, it } from "@effect/vitest"

interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
  readonly millis: number
}

type Child = ChildProcessByStdio<null, Readable, Readable>

const start = (name: string): Child =>
  spawn(process.execPath, [join(import.meta.dirname, "programs/run.ts"), name], { stdio: ["ignore", "pipe", "pipe"] })

const collect = (stream: Readable): (() => string) => {
  let text = ""
  stream.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk
  })
  return () => text
}

/** Runs a program of `programs/run.ts`; `during` sees its process. */
const runProgram = (name: string, during: (child: Child, stdout: () => string) => Promise<void> = async () => {}) =>
  new Promise<Ended>((resolve, reject) => {
    const began = performance.now()
    const child = start(name)
    const stdout = collect(child.stdout)
    const stderr = collect(child.stderr)
    child.once("error", reject)
    child.once("close", (code, signal) =>
      resolve({ code, signal, stdout: stdout(), stderr: stderr(), millis: performance.now() - began })
    )
    during(child, stdout).catch(reject)
  })

const until = async (holds: () => boolean): Promise<void> => {
  for (let tries = 0; !holds(); tries++) {
    if (tries > 500) throw new Error("waited in vain")
    await timers.setTimeout(10)
  }
}

describe("the runner", () => {
  it("ends the process with the value of the program", async () => {
    expect(await runProgram("seven")).toMatchObject({ code: 7, stdout: "", stderr: "" })
  })

  it("waits for a program that only sleeps", async () => {
    const ended = await runProgram("quiet")
    expect(ended.code).toBe(0)
    expect(ended.millis).toBeGreaterThan(300)
  })

  it("prints why a program failed or died, and ends with 1", async () => {
    expect(await runProgram("fails")).toMatchObject({ code: 1, stderr: expect.stringContaining("the reason") })
    expect(await runProgram("dies")).toMatchObject({ code: 1, stderr: expect.stringContaining("a bug") })
  })

  it("runs the finalizers after an error that nobody caught", async () => {
    const uncaught = (text: string) => expect.stringMatching(new RegExp(`^uncaught: Error: ${text}`, "u"))
    expect(await runProgram("throws")).toMatchObject({
      code: 1,
      stdout: "finalized\n",
      stderr: uncaught("thrown in a timer")
    })
    expect(await runProgram("rejects")).toMatchObject({ code: 1, stdout: "finalized\n", stderr: uncaught("rejected") })
  })

  it("does not call it a success when an error was not caught", async () => {
    expect((await runProgram("crashesButReturns")).code).toBe(1)
  })

  it("writes all of the log to a slow reader", async () => {
    const ended = await runProgram("talks", async (child) => {
      child.stderr.pause()
      await timers.setTimeout(400)
      child.stderr.resume()
    })
    expect(ended.code).toBe(3)
    expect(ended.stderr).toHaveLength(2_000_001)
  })

  it("does not wait for ever for a reader that does not read", async () => {
    const child = start("talks")
    const began = performance.now()
    const code = await new Promise<number | null>((resolve) => child.once("exit", resolve))
    const millis = performance.now() - began
    child.stderr.destroy()
    expect(code).toBe(3)
    expect(millis).toBeGreaterThan(900)
    expect(millis).toBeLessThan(5000)
  })

  it("goes on when nobody reads the log any more", async () => {
    const ended = await runProgram("keepsTalking", async (child) => {
      child.stderr.destroy()
    })
    expect(ended).toMatchObject({ code: 0, stdout: "still here\n" })
  })
})

describe("signals", () => {
  const inTurn = (...signals: ReadonlyArray<NodeJS.Signals>) =>
    runProgram("signals", async (child, stdout) => {
      await until(() => stdout().includes("ready"))
      for (const signal of signals) {
        child.kill(signal)
        await timers.setTimeout(50)
      }
    })

  it("P1 are handed to the program in their order, none is lost, and none kills the process", async () => {
    expect(await inTurn("SIGTERM", "SIGQUIT")).toMatchObject({
      code: 5,
      stdout: "ready\nfirst SIGTERM\nsecond SIGQUIT\n"
    })
    expect(await inTurn("SIGINT", "SIGINT")).toMatchObject({ code: 5, stdout: "ready\nfirst SIGINT\nsecond SIGINT\n" })
  })

  it("that mean nothing to us are ignored with a log line", async () => {
    const ended = await inTurn("SIGHUP", "SIGUSR2", "SIGTERM", "SIGTERM")
    expect(ended).toMatchObject({ code: 5 })
    const log = ended.stdout + ended.stderr
    expect(log).toContain("received SIGHUP: ignored")
    expect(log).toContain("received SIGUSR2: ignored")
  })
})
