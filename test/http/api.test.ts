import { describe, expect, it } from "@effect/vitest"
import * as OpenApi from "effect/http-api/OpenApi"
import { ExternalApi } from "../../src/http/api/ExternalApi.ts"
import { InternalApi } from "../../src/http/api/InternalApi.ts"

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
      "GET /docs",
      "GET /hadron_liveness_probe",
      "GET /healthz",
      "GET /insights",
      "GET /lfc/offload",
      "GET /lfc/prewarm",
      "GET /metrics",
      "GET /metrics.json",
      "GET /openapi.json",
      "GET /readyz",
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
      "POST /failpoints",
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
