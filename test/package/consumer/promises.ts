/** A program of somebody who does not use Effect. Arguments: URL, URL of the internal server, token. */
import {
  type CommonError,
  ComputeClient,
  type ComputeStatusResponse,
  type ConfigurationDocument,
  PreconditionFailed
} from "compute-ctl/client"
import { next } from "compute-ctl/domain/ComputeStatus"
import * as Lsn from "compute-ctl/domain/Lsn"

const [url = "", internalUrl = "", token = ""] = process.argv.slice(2)
const client = ComputeClient.connect({ url, internalUrl, token })

const spec: ConfigurationDocument = {
  format_version: 1,
  cluster: { roles: [], databases: [] },
  suspend_timeout_seconds: -1,
  mode: "Primary"
}

const seen: ComputeStatusResponse = await client.waitFor("running", { timeout: "10 seconds" })
const refused = await client.configure(spec).catch((error: CommonError) => error)
await client.internal.refreshConfiguration()
const grant = await client.internal
  .grant({ database: "shop", schema: "public", privileges: ["USAGE"], role: "alice" })
  .catch((error: unknown) => (error instanceof PreconditionFailed ? error._tag : "something else"))

// @ts-expect-error no such mode
const wrongMode = () => client.terminate({ mode: "slow" })
// @ts-expect-error a database has to be named
const noDatabase = () => client.schema()
// @ts-expect-error no such status
const noStatus = () => client.waitFor("on fire")

process.stdout.write(
  JSON.stringify({
    status: seen.status,
    refused: "_tag" in refused ? refused._tag : refused.status,
    after: next(seen.status, "refresh_requested"),
    grant,
    lsn: Lsn.format(Lsn.parse("0/28f10d8") ?? 0n),
    unused: [wrongMode, noDatabase, noStatus].length
  })
)
