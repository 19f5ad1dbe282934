/**
 * `compute-ctl/client`: typed client of a node, for programs in Effect and for others, in Node and in browsers.
 *
 * Everything is derived from the definitions that the servers are made of. Methods carry the names of the endpoints and
 * take one object; documents are as on the wire. Errors are the classes of `api/Errors.ts` and `client/errors.ts`. No
 * module of Node is reached from here.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import { type Client, type ClientOptions, make } from "./client/effectClient.ts"
import { type ConnectOptions, connect, type PromiseClient } from "./client/promiseClient.ts"

/** The client of one node. As a service: the methods give effects. */
export class ComputeClient extends Context.Service<ComputeClient, Client>()("compute-ctl/ComputeClient") {
  /** A client over the `HttpClient` of the caller, as that of `effect/http/FetchHttpClient`. */
  static readonly make = (options: ClientOptions): Effect.Effect<Client, never, HttpClient.HttpClient> => make(options)

  static readonly layer = (options: ClientOptions): Layer.Layer<ComputeClient, never, HttpClient.HttpClient> =>
    Layer.effect(ComputeClient, ComputeClient.make(options))

  /** The client whose methods give promises, over `fetch`. */
  static readonly connect = (options: ConnectOptions): PromiseClient => connect(options)
}

export * from "./api/Errors.ts"
export type { ConfigurationDocument } from "./client/configuration.ts"
export type { ComputeStatusResponse, ReconcileResponse, StartupTimeline } from "./client/documents.ts"
export type { Client, ClientOptions } from "./client/effectClient.ts"
export {
  type ApiError,
  type CommonError,
  StatusUnattainable,
  UnexpectedAnswer,
  Unreachable,
  WaitTimeout
} from "./client/errors.ts"
export type { ConnectOptions, PromiseClient } from "./client/promiseClient.ts"
export type { ByteStream, Bytes, CallOptions } from "./client/surface.ts"
export type { WaitOptions } from "./client/waitFor.ts"
