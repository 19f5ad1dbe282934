/**
 * Routes of the two HTTP servers as tables, from the definitions that serve them.
 *
 *     scripts/node build/apiTables.ts [README.md]
 */

import * as Context from "effect/Context"
import * as HttpApi from "effect/http-api/HttpApi"
import type * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Option from "effect/Option"
import { NotImplemented } from "../src/http/api/Errors.ts"
import { ExternalApi } from "../src/http/api/ExternalApi.ts"
import { InternalApi } from "../src/http/api/InternalApi.ts"
import { Authorization } from "../src/http/api/Middleware.ts"
import * as Generated from "./generated.ts"

/** Name of the part of the document. */
export const part = "routes"

export interface Route {
  readonly method: string
  readonly path: string
  readonly summary: string
  readonly needsToken: boolean
  /** 501 is among its answers: the whole route, or a part of it, has to be written yet. */
  readonly unfinished: boolean
}

const routesOf = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>
): ReadonlyArray<Route> => {
  const routes: Array<Route> = []
  HttpApi.reflect(api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint, errors, middleware, mergedAnnotations }) => {
      routes.push({
        method: endpoint.method,
        path: endpoint.path,
        summary: Option.getOrElse(Context.getOption(mergedAnnotations, OpenApi.Summary), () => ""),
        needsToken: [...middleware].some(({ key }) => key === Authorization.key),
        unfinished: errors.has(NotImplemented.status)
      })
    }
  })
  return routes
}

export const external: ReadonlyArray<Route> = routesOf(ExternalApi)
export const internal: ReadonlyArray<Route> = routesOf(InternalApi)

/** What a route does now, where that is neither all nor nothing. */
export const notes: Readonly<Record<string, string>> = {
  "GET /lfc/prewarm": "always `not_prewarmed`",
  "DELETE /lfc/prewarm": "always 202: nothing is under way",
  "GET /lfc/offload": "always `not_offloaded`"
}

const rows = (routes: ReadonlyArray<Route>): ReadonlyArray<ReadonlyArray<string>> =>
  routes.map((route) => {
    const name = `${route.method} ${route.path}`
    const now = notes[name] ?? (route.unfinished ? "501" : "works")
    return [`\`${name}\``, Generated.cell(route.summary), route.needsToken ? "token" : "no token", now]
  })

const head = ["Route", "What it does", "Access", "Now"]

export const apiTables = (): string =>
  [
    "External server, port 3080, every interface:",
    Generated.table(head, rows(external)),
    "Internal server, port 3081, loopback:",
    Generated.table(head, rows(internal))
  ].join("\n\n")

if (import.meta.main) Generated.main(process.argv.slice(2), part, apiTables())
