/** What the environment says about logs and traces, read once, before anything can be logged. */
export interface Boot {
  /** `RUST_LOG`: filter of log lines. */
  readonly rustLog: string | undefined
  /** `TRACEPARENT` and `TRACESTATE`: W3C context that the trace of the start continues. */
  readonly traceparent: string | undefined
  readonly tracestate: string | undefined
  /** Every variable that begins with `OTEL_` and is not empty. */
  readonly otel: Readonly<Record<string, string>>
}
