/** The program: reads the command line and the environment, and runs what they ask for. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Compute from "./cli/compute.ts"
import { fileProbe } from "./cli/files.ts"
import { bootOf, parse } from "./cli/parse.ts"
import { usageExitCode } from "./cli/UsageError.ts"
import { listen } from "./layers/Signals.ts"
import { run } from "./run.ts"

const environment = { ...process.env }
const parsed = parse(process.argv.slice(2), environment, fileProbe(process.cwd()))

if (Result.isFailure(parsed)) {
  process.exitCode = usageExitCode
  process.stderr.write(`compute_ctl: ${parsed.failure.message}\n`)
} else {
  const command = parsed.success
  switch (command._tag) {
    case "Print":
      process.stdout.write(command.text)
      break
    case "Node":
      listen()
      run(Compute.main(command.params, bootOf(environment)))
      break
    case "Local":
      listen()
      // Rare, and large: not loaded where a node starts.
      run(
        Effect.flatMap(
          Effect.promise(() => import("./cli/local.ts")),
          (local) => local.main(command.params, bootOf(environment))
        )
      )
      break
    // Nothing to bring down: a signal ends these at once.
    case "LocalMove":
      run(
        Effect.flatMap(
          Effect.promise(() => import("./cli/localMove.ts")),
          (move) => move.main(command.params)
        )
      )
      break
    case "Plan":
      run(
        Effect.flatMap(
          Effect.promise(() => import("./cli/plan.ts")),
          (plan) => plan.main(command.params)
        )
      )
      break
    case "Operator":
      run(
        Effect.flatMap(
          Effect.promise(() => import("./cli/operator/main.ts")),
          (operator) => operator.main(command.params)
        )
      )
      break
    case "Validate":
      run(
        Effect.flatMap(
          Effect.promise(() => import("./cli/validate.ts")),
          (validate) => validate.main(command.params)
        )
      )
      break
    case "Fsm":
      run(
        Effect.flatMap(
          Effect.promise(() => import("./cli/fsm.ts")),
          (fsm) => fsm.main(command.json)
        )
      )
  }
}
