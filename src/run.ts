/**
 * Runs the program of the process to its end.
 *
 * Differs from `NodeRuntime.runMain`: signals do not interrupt, the program reads them itself (`layers/Signals`); the
 * program's value is the exit code; an uncaught error anywhere interrupts the program, so that its finalizers still
 * bring Postgres down; what was written to stdout and stderr is out before the process ends.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logging from "./layers/Logging.ts"

/** A reader that does not read cannot hold up the end for longer than this, in milliseconds. */
const drainMillis = 1000

/** Ends the process once its output is out. Pipes are written asynchronously. */
const exit = (code: number): void => {
  Logging.flush()
  setTimeout(() => process.exit(code), drainMillis)
  process.stdout.write("", () => process.stderr.write("", () => process.exit(code)))
}

/** Behind what the log has said so far. */
const report = (text: string): void => {
  Logging.flush()
  process.stderr.write(`${text}\n`)
}

/** Nobody reads the log any more. That is no reason to stop Postgres. */
const isBrokenLog = (cause: unknown): boolean =>
  cause instanceof Error && "code" in cause && cause.code === "EPIPE" && "syscall" in cause && cause.syscall === "write"

/** Exit code: the program's value, or 1 where it failed, died or was interrupted by an uncaught error. */
export const run = <E>(program: Effect.Effect<number, E>): void => {
  const keepAlive = setInterval(() => {}, 2 ** 31 - 1) // a fiber alone does not keep Node alive
  const fiber = Effect.runFork(program)
  let crashed = false
  const crash = (cause: unknown): void => {
    if (isBrokenLog(cause)) return
    crashed = true
    report(`uncaught: ${cause instanceof Error ? cause.stack : String(cause)}`)
    fiber.interruptUnsafe()
  }
  process.on("uncaughtException", crash)
  process.on("unhandledRejection", crash)
  fiber.addObserver((result) => {
    clearInterval(keepAlive)
    if (Exit.isFailure(result) && !Cause.hasInterruptsOnly(result.cause)) {
      report(Cause.pretty(result.cause))
    }
    exit(Exit.isSuccess(result) && !crashed ? result.value : 1)
  })
}
