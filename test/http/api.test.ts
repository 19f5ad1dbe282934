import { readFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { ComputeSpec } from "../../src/domain/ComputeSpec.ts"
import * as E from "../../src/http/api/Errors.ts"
import { ExternalApi } from "../../src/http/api/ExternalApi.ts"
import { InternalApi } from "../../src/http/api/InternalApi.ts"
import * as Client from "../../src/http/Client.ts"
import { ownToken, spec, start } from "./harness.ts"

const routes = (document: OpenApi.OpenAPISpec): Array<string> =>
  Object.entries(document.paths).flatMap(([path, item]) =>
    Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`)
  )

describe("the OpenAPI documents", () => {
  it("list every route of both servers, twice the same", () => {
    expect(routes(OpenApi.fromApi(ExternalApi)).sort()).toEqual([
      "DELETE /lfc/prewarm",
      "GET /autoscaling_metrics",
      "GET /database_schema",
      "GET /dbs_and_roles",
      "GET /hadron_liveness_probe",
      "GET /insights",
      "GET /lfc/offload",
      "GET /lfc/prewarm",
      "GET /metrics",
      "GET /metrics.json",
      "GET /reconcile",
      "GET /status",
      "GET /timeline",
      "POST /check_writability",
      "POST /configure",
      "POST /lfc/offload",
      "POST /lfc/prewarm",
      "POST /promote",
      "POST /terminate"
    ])
    expect(routes(OpenApi.fromApi(InternalApi)).sort()).toEqual([
      "POST /extension_server/{filename}",
      "POST /extensions",
      "POST /grants",
      "POST /refresh_configuration"
    ])
    expect(JSON.stringify(OpenApi.fromApi(ExternalApi))).toBe(JSON.stringify(OpenApi.fromApi(ExternalApi)))
  })

  it("ask for a token everywhere but for the metrics", () => {
    const { paths } = OpenApi.fromApi(ExternalApi)
    expect(paths["/status"]?.get?.security).toEqual([{ bearer: [] }])
    expect(paths["/metrics"]?.get?.security).toEqual([])
    expect(Object.keys(paths["/status"]?.get?.responses ?? {})).toEqual(["200", "400", "401", "403"])
    expect(Object.keys(paths["/configure"]?.post?.responses ?? {})).toEqual(
      expect.arrayContaining(["200", "400", "401", "403", "412", "413", "415", "422", "500"])
    )
  })
})

describe("the typed client", () => {
  const withClient = <A, Err>(
    options: { readonly port: number; readonly token?: string },
    use: (client: Client.Client) => Effect.Effect<A, Err>
  ) =>
    Client.make({
      url: `http://127.0.0.1:${options.port}`,
      ...(options.token === undefined ? {} : { token: Redacted.make(options.token) })
    }).pipe(Effect.flatMap(use), Effect.provide(FetchHttpClient.layer), Effect.runPromise)

  it("gets decoded answers, and declared errors as their classes", async () => {
    await using node = await start()
    const options = { port: node.externalPort, token: ownToken }
    expect(await withClient(options, (client) => client.control.status())).toMatchObject({
      status: "empty",
      tenant: null
    })
    expect(await withClient(options, (client) => client.metrics.prometheus())).toContain("compute_ctl_up")
    const refused = await withClient(options, (client) => Effect.flip(client.database.checkWritability()))
    expect(refused).toBeInstanceOf(E.PreconditionFailed)
    expect(refused).toMatchObject({ message: "invalid compute status: empty" })
    const stranger = await withClient({ port: node.externalPort }, (client) => Effect.flip(client.control.status()))
    expect(stranger).toBeInstanceOf(E.BadRequest)
  })

  it("sends specs and modes", async () => {
    await using node = await start()
    const options = { port: node.externalPort, token: ownToken }
    const payload = {
      spec: { ...Schema.decodeUnknownSync(ComputeSpec)(spec), tenant_id: null },
      compute_ctl_config: { jwks: { keys: [] } }
    }
    const invalid = await withClient(options, (client) => Effect.flip(client.control.configure({ payload })))
    expect(invalid).toMatchObject({ _tag: "BadRequest", message: "tenant id should be provided" })
    const ended = await withClient(options, (client) => client.control.terminate({ query: { mode: "immediate" } }))
    expect(ended).toEqual({ lsn: null })
  })

  it("reaches no module of Node, and of ours the domain alone", () => {
    const seen = new Set<string>()
    const visit = (url: URL): void => {
      if (seen.has(url.href)) return
      seen.add(url.href)
      for (const [, from = ""] of readFileSync(url, "utf8").matchAll(/^(?:import|export)[^;]*?from "([^"]+)"/gmsu)) {
        if (from.startsWith(".")) visit(new URL(from, url))
        else expect(from, url.pathname).toMatch(/^effect\//u)
      }
    }
    visit(new URL("../../src/http/Client.ts", import.meta.url))
    expect(seen.size).toBeGreaterThan(8)
    for (const href of seen) expect(href).toMatch(/\/src\/(domain\/|http\/api\/|http\/Client\.ts)/u)
  })
})
