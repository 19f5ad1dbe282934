/** What `compute_ctl local` and its commands were asked for: command line and environment, read once. */

export interface LocalParams {
  /** Absolute; keeps the databases between runs. Undefined: the place of the user for such data. */
  readonly dataDir: string | undefined
  /** Which Postgres to run. `Version` asks for one that is installed on this machine. */
  readonly postgres:
    | { readonly _tag: "Bundled" }
    | { readonly _tag: "Version"; readonly major: LocalMajor }
    | { readonly _tag: "Binary"; readonly pgbin: string }
  readonly pageservers: number
  readonly port: number
  readonly externalHttpPort: number
  readonly internalHttpPort: number
  /** User that owns Postgres and its files when the process is root. */
  readonly runAs: string | undefined
  readonly buildTag: string
  /** What children inherit: the whole environment of this process. */
  readonly environment: Readonly<Record<string, string | undefined>>
}

/** The timeline of the local mode that runs on a data directory is to move. */
export interface LocalMoveParams extends Pick<LocalParams, "dataDir" | "environment"> {
  /** Number of the pageserver; undefined: the next one. */
  readonly to: number | undefined
}

/** More of them would show nothing more. */
export const maxPageservers = 16

/** Major versions that `--pg-version` takes. */
export const localMajors = [14, 15, 16, 17, 18] as const
export type LocalMajor = (typeof localMajors)[number]
