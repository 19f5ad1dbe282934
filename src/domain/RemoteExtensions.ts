/**
 * Which archive of remote storage holds an extension or a library.
 *
 * Source: reference/http-api §8.1.
 */
import * as Data from "effect/Data"
import * as Result from "effect/Result"
import type { ComputeSpec } from "./ComputeSpec.ts"

type RemoteExtSpec = NonNullable<ComputeSpec["remote_extensions"]>

/** The spec says nothing of remote extensions. */
export class NoInformation extends Data.TaggedError("NoInformation") {
  override get message(): string {
    return "information about remote extensions is unavailable"
  }
}

/** There is no such extension or library, or this compute may not have it. */
export class NotListed extends Data.TaggedError("NotListed")<{ readonly what: string; readonly name: string }> {
  override get message(): string {
    return `${this.what} ${this.name} is not found`
  }
}

/** Own members alone: `constructor` is no library. */
const lookUp = <A>(index: Readonly<Record<string, A>>, name: string): A | undefined =>
  Object.hasOwn(index, name) ? index[name] : undefined

const allowed = ({ custom_extensions, public_extensions }: RemoteExtSpec, name: string): boolean =>
  public_extensions?.includes(name) === true || custom_extensions?.includes(name) === true

/** Name of the archive. A library is known by its file name, which ends at the first `.so`. */
export const find = (
  remote: RemoteExtSpec | null | undefined,
  name: string,
  isLibrary: boolean
): Result.Result<string, NoInformation | NotListed> => {
  if (remote === undefined || remote === null) return Result.fail(new NoInformation())
  const library = name.split(".so", 1)[0] ?? ""
  const real = isLibrary ? lookUp(remote.library_index, library) : name
  if (real === undefined) return Result.fail(new NotListed({ what: "library", name: library }))
  if (!allowed(remote, real)) return Result.fail(new NotListed({ what: "extension", name: real }))
  return lookUp(remote.extension_data, real) === undefined
    ? Result.fail(new NotListed({ what: "real_ext_name", name: real }))
    : Result.succeed(real)
}
