/**
 * Methods of a client, derived from the definitions of a server: each route gives one, under the name of its endpoint.
 *
 * A method takes one object with everything that the route wants: members of the path, of the query and of the body.
 * Documents are as on the wire, in both directions. Browser safe.
 */
import type * as Effect from "effect/Effect"
import * as HttpMethod from "effect/http/HttpMethod"
import * as HttpApi from "effect/http-api/HttpApi"
import type * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import type * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import type * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import type * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import type * as Stream from "effect/Stream"
import type { ConfigurationDocument } from "./configuration.ts"
import type { ApiError, CommonError, Unreachable } from "./errors.ts"

type Endpoint = HttpApiEndpoint.ConstraintRequest

type Simplify<A> = { [Key in keyof A]: A[Key] } & unknown

/** OpenAPI has no wildcards either: there the rest of a path has the same name. */
export const wildcardName = "filename"

type Named<A> = { readonly [Key in keyof A as Key extends "*" ? typeof wildcardName : Key]: A[Key] }

type Part<S extends Schema.Constraint> = [S] extends [never] ? unknown : Named<S["Type"]>

/** The definitions wrap each schema in a codec, whose own wire form says nothing. */
type Wire<S> = [S] extends [never]
  ? unknown
  : S extends { readonly schema: infer Inner extends Schema.Constraint }
    ? Inner["Encoded"]
    : never

/** Members of path, query and body; `unknown`: a route that takes nothing. */
type Members<E extends Endpoint> = Part<E["~Params"]> & Part<E["~Query"]> & Wire<E["~Payload"]>

/** What a route takes: nothing, one object, or one that may be left out because all of its members may. */
type Arguments<E extends Endpoint> = E["identifier"] extends "configure"
  ? [document: ConfigurationDocument]
  : unknown extends Members<E>
    ? []
    : Record<never, never> extends Members<E>
      ? [input?: Simplify<Members<E>>]
      : [input: Simplify<Members<E>>]

type AnswerOf<S, Bytes> = S extends HttpApiSchema.StreamUint8Array ? Bytes : Wire<S>

type Answer<E extends Endpoint, Bytes> = AnswerOf<E["~Success"], Bytes>

/** What a route declares, and what every call may meet. */
type Failure<E extends Endpoint> =
  | Extract<E["~Error"]["Type"] | HttpApiMiddleware.Error<E["~Middleware"]>, ApiError>
  | CommonError

type Routes<Groups extends HttpApiGroup.Constraint> = Extract<HttpApiGroup.Endpoints<Groups>, Endpoint>

/** Bytes as they arrive. */
export type ByteStream = Stream.Stream<Uint8Array, Unreachable>

/** Methods that give effects. */
export type EffectMethods<Groups extends HttpApiGroup.Constraint> = {
  readonly [E in Routes<Groups> as E["identifier"]]: (
    ...args: Arguments<E>
  ) => Effect.Effect<Answer<E, ByteStream>, Failure<E>>
}

/** Of one call. */
export interface CallOptions {
  /** Aborting it breaks the call off; what was asked for may happen all the same. */
  readonly signal?: AbortSignal
}

/** Bytes as they arrive; they can be read once. Breaking off a loop over them closes the connection. */
export interface Bytes extends AsyncIterable<Uint8Array> {
  /** All of them, as UTF-8. */
  readonly text: () => Promise<string>
}

/** The same methods, which give promises. */
export type PromiseMethods<Groups extends HttpApiGroup.Constraint> = {
  readonly [E in Routes<Groups> as E["identifier"]]: (
    ...args: [...Arguments<E>, options?: CallOptions]
  ) => Promise<Answer<E, Bytes>>
}

/** What is known of a route while the program runs. */
export interface Route {
  readonly name: string
  readonly method: HttpMethod.HttpMethod
  readonly path: string
  readonly query: ReadonlyArray<string>
  readonly takesInput: boolean
  readonly hasBody: boolean
  /** The answer is bytes as they come. */
  readonly streams: boolean
  /** By status: checks a body that was answered. Built on first use. */
  readonly accepts: (status: number) => ((body: unknown) => Effect.Effect<unknown, Schema.SchemaError>) | undefined
}

const membersOf = (schema: Schema.Top | undefined): ReadonlyArray<string> => {
  const ast = schema === undefined ? undefined : SchemaAST.toType(schema.ast)
  return ast !== undefined && SchemaAST.isObjects(ast) ? ast.propertySignatures.map(({ name }) => String(name)) : []
}

const routesOf = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>
): ReadonlyArray<Route> => {
  const routes: Array<Route> = []
  HttpApi.reflect(api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint, successes }) => {
      const hasBody = endpoint.payload.size > 0 && HttpMethod.hasBody(endpoint.method)
      routes.push({
        name: endpoint.identifier,
        method: endpoint.method,
        path: endpoint.path,
        query: membersOf(endpoint.query),
        takesInput: hasBody || endpoint.query !== undefined || endpoint.params !== undefined,
        hasBody,
        streams: successes.size === 0,
        accepts: (status) => {
          const schemas = successes.get(status)
          return schemas && Schema.decodeUnknownEffect(Schema.toEncoded(Schema.Union(schemas)))
        }
      })
    }
  })
  return routes
}

type Api<Id extends string, Groups extends HttpApiGroup.Constraint> = HttpApi.HttpApi<Id, Groups>

const assemble = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: Api<Id, Groups>,
  method: (route: Route) => unknown
): unknown => Object.fromEntries(routesOf(api).map((route) => [route.name, method(route)]))

/** Methods made from the definitions while the program runs; their type is derived from the same definitions. */
export function effectMethods<Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: Api<Id, Groups>,
  method: (route: Route) => (input: unknown) => Effect.Effect<unknown, unknown>
): EffectMethods<Groups>
export function effectMethods<Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: Api<Id, Groups>,
  method: (route: Route) => unknown
): unknown {
  return assemble(api, method)
}

/** As `effectMethods`. */
export function promiseMethods<Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: Api<Id, Groups>,
  method: (route: Route) => (input: unknown, options: CallOptions | undefined) => Promise<unknown>
): PromiseMethods<Groups>
export function promiseMethods<Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: Api<Id, Groups>,
  method: (route: Route) => (input: unknown, options: CallOptions | undefined) => unknown
): unknown {
  return assemble(api, (route) => {
    const call = method(route)
    return (...[first, second]: ReadonlyArray<CallOptions | undefined>) =>
      route.takesInput ? call(first, second) : call(undefined, first)
  })
}
