/** Values about the Postgres server that the node and `compute_ctl plan` both take. Source: reference/startup §2. */
import * as Result from "effect/Result"
import * as ConnString from "../domain/ConnString.ts"
import { describeLine } from "../domain/describe.ts"
import { UsageError } from "./UsageError.ts"
import type { Values } from "./values.ts"

/** `--connstr`: a URL. Its text is not in the error, there may be a password in it. */
export const connstr = (
  read: Pick<Values<"connstr">, "text" | "invalid">
): Result.Result<{ readonly text: string; readonly target: ConnString.PostgresTarget }, UsageError> =>
  Result.flatMap(read.text("connstr"), (text) =>
    ConnString.requireUrl(text).pipe(
      Result.map((target) => ({ text, target })),
      Result.orElse((error) => read.invalid("connstr", describeLine(error)))
    )
  )

export const privilegedRoleName = (
  read: Pick<Values<"privileged-role-name">, "text">
): Result.Result<string, UsageError> =>
  Result.flatMap(read.text("privileged-role-name"), (name) =>
    /^[a-z_]+$/u.test(name)
      ? Result.succeed(name)
      : Result.fail(
          new UsageError({ message: "--privileged-role-name can only contain lowercase letters and underscores" })
        )
  )
