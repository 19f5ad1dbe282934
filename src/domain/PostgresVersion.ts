/** Major version of Postgres, from what `pg_config --version` prints. Source: reference/compute-spec §7.4. */
import * as Data from "effect/Data"
import * as Result from "effect/Result"

export const majors = [14, 15, 16, 17, 18] as const
export type PostgresMajor = (typeof majors)[number]

export class UnsupportedVersion extends Data.TaggedError("UnsupportedVersion")<{
  /** As printed. */
  readonly version: string
}> {
  override get message(): string {
    return `unsupported postgres version ${this.version}`
  }
}

/** Reads `PostgreSQL 17.5 (…)`, `PostgreSQL 16rc2`; a bare major such as `PostgreSQL 14` is none. */
export const parse = (text: string): Result.Result<PostgresMajor, UnsupportedVersion> => {
  const version = text.trim()
  const digits = /^PostgreSQL (\d+)./u.exec(version)?.[1]
  const major = majors.find((known) => String(known) === digits)
  return major === undefined ? Result.fail(new UnsupportedVersion({ version })) : Result.succeed(major)
}
