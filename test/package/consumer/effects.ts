/** A program of somebody who uses Effect. Arguments: URL, token. */
import { ComputeClient } from "compute-ctl/client"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"

const [url = "", token = ""] = process.argv.slice(2)

const program = Effect.gen(function* () {
  const client = yield* ComputeClient
  const { status } = yield* client.status()
  const refused = yield* client
    .configure({
      format_version: 1,
      cluster: { roles: [], databases: [] },
      suspend_timeout_seconds: -1
    })
    .pipe(
      Effect.map(() => "configured"),
      // A tag that the route cannot fail with would not compile.
      Effect.catchTags({
        BadRequest: ({ message }) => Effect.succeed(`bad: ${message}`),
        PreconditionFailed: ({ message }) => Effect.succeed(`refused: ${message}`)
      })
    )
  const gone = yield* Effect.flip(client.waitFor("empty"))
  return { status, refused, gone: gone._tag }
})

const layer = ComputeClient.layer({ url, token: Redacted.make(token) })
process.stdout.write(
  JSON.stringify(await Effect.runPromise(Effect.provide(program, Layer.provide(layer, FetchHttpClient.layer))))
)
