import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { show } from "../../src/cli/progress.ts"
import { decodeComputeConfig } from "../../src/domain/ComputeConfig.ts"
import { type ComputeState, initial } from "../../src/domain/ComputeState.ts"
import * as ParsedSpec from "../../src/domain/ParsedSpec.ts"

const specOn = (pageserver: string, roles: ReadonlyArray<object> = []): ParsedSpec.ParsedSpec => {
  const { spec } = Result.getOrThrow(
    decodeComputeConfig({
      spec: {
        format_version: 1,
        suspend_timeout_seconds: -1,
        cluster: { roles, databases: [] },
        tenant_id: "9e4c8f36063c6c6e93bc20d65a820f3d",
        timeline_id: "814ce0bd2ae452e11575402e8296b64d",
        pageserver_connstring: `postgresql://${pageserver}`,
        safekeeper_connstrings: ["127.0.0.1:1"]
      },
      compute_ctl_config: { jwks: { keys: [] } }
    })
  )
  if (spec === undefined || spec === null) throw new Error("the document has no spec")
  return Result.getOrThrow(ParsedSpec.parse(spec))
}

/** Lines for a node that goes through these states. */
const lines = (...states: ReadonlyArray<Partial<ComputeState>>) =>
  Effect.gen(function* () {
    const written: Array<string> = []
    const complete = states.map((state) => ({ ...initial(0, { keys: [] }), ...state }))
    yield* show(
      Stream.fromIterable(complete),
      (text) => void written.push(text),
      () => "BANNER"
    )
    return written
  })

describe("what the terminal shows", () => {
  it.effect("stages with their times, then how to connect; a stage once", () =>
    Effect.gen(function* () {
      const done = { stage: "create_pgdata", started: 0, duration: 11, error: undefined }
      const failed = { stage: "get_basebackup", started: 0, duration: 5, error: "not found" }
      expect(
        yield* lines(
          { status: "init", timeline: [{ ...done, duration: undefined }] },
          { status: "init", timeline: [done] },
          { status: "init", timeline: [done, failed] },
          { status: "running", spec: specOn("a"), timeline: [done, failed] }
        )
      ).toEqual([
        "  create_pgdata                    11 ms",
        "  get_basebackup               failed: not found",
        "BANNER"
      ])
    })
  )

  it.effect("a configuration that has changed, and nothing for one that has not", () =>
    Effect.gen(function* () {
      const refreshing = (spec: ParsedSpec.ParsedSpec) => ({ status: "refresh_configuration", spec }) as const
      expect(
        yield* lines(
          { status: "running", spec: specOn("a") },
          refreshing(specOn("a")),
          { status: "running", spec: specOn("a") },
          refreshing(specOn("a")),
          { status: "running", spec: specOn("b") },
          { status: "configuration", spec: specOn("b") },
          { status: "running", spec: specOn("b", [{ name: "alice" }]) }
        )
      ).toEqual(["BANNER", "new configuration in force: pageserver postgresql://b", "new configuration in force"])
    })
  )

  it.effect("why a refresh fails, once for each reason, and the end", () =>
    Effect.gen(function* () {
      const pending = (error?: string) =>
        ({ status: "refresh_configuration_pending", spec: specOn("a"), error }) as const
      const refreshing = { status: "refresh_configuration", spec: specOn("a") } as const
      expect(
        yield* lines(
          { status: "running", spec: specOn("a") },
          pending(),
          refreshing,
          pending("503"),
          { ...refreshing, error: "503" },
          pending("503"),
          { ...refreshing, error: "503" },
          pending("504"),
          { status: "failed", spec: specOn("a"), error: "Postgres is gone" },
          { status: "termination_pending_immediate", spec: specOn("a"), error: "Postgres is gone" }
        )
      ).toEqual([
        "BANNER",
        "the configuration could not be refreshed: 503",
        "the configuration could not be refreshed: 504",
        "\nPostgres is gone\n",
        "\nstopping …"
      ])
    })
  )
})
