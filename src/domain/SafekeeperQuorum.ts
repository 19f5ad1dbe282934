/**
 * Do the safekeepers agree already, so that no sync is needed before Postgres starts?
 *
 * Decided at the first quorum of answers or of failures; what arrives later changes nothing. Source: reference/startup
 * §11.1.
 */
import * as Lsn from "./Lsn.ts"

/** What one safekeeper said of the timeline: its positions, that it does not know it, or nothing usable. */
export type SafekeeperAnswer =
  | { readonly _tag: "Status"; readonly flush: Lsn.Lsn; readonly commit: Lsn.Lsn }
  | { readonly _tag: "Unknown" }
  | { readonly _tag: "Failed"; readonly message: string }

export type Verdict =
  | { readonly _tag: "Synced"; readonly lsn: Lsn.Lsn }
  | { readonly _tag: "NotSynced"; readonly reason: string }
  | { readonly _tag: "NoQuorum"; readonly reason: string }
  | { readonly _tag: "Undecided" }

/** How many of `total` safekeepers decide. */
export const quorum = (total: number): number => Math.floor(total / 2) + 1

type Known = Extract<SafekeeperAnswer, { readonly _tag: "Status" }>

const differing = (lsns: ReadonlyArray<Lsn.Lsn>): string | undefined => {
  const distinct = [...new Set(lsns)].sort((a, b) => (a < b ? -1 : 1))
  return distinct.length > 1 ? distinct.map(Lsn.format).join(" ") : undefined
}

const compare = (known: ReadonlyArray<Known>, answered: number): Verdict => {
  if (known.length < answered) {
    return { _tag: "NotSynced", reason: `Only ${known.length} out of ${answered} know about this timeline` }
  }
  const commits = differing(known.map(({ commit }) => commit))
  if (commits !== undefined) return { _tag: "NotSynced", reason: `commit_lsn differs: ${commits}` }
  const flushes = differing(known.map(({ flush }) => flush))
  if (flushes !== undefined) return { _tag: "NotSynced", reason: `flush_lsn differs: ${flushes}` }
  const [first] = known
  if (first === undefined) return { _tag: "NoQuorum", reason: "there are no safekeepers" }
  return first.commit === first.flush
    ? { _tag: "Synced", lsn: first.flush }
    : {
        _tag: "NotSynced",
        reason: `commit_lsn ${Lsn.format(first.commit)} is not flush_lsn ${Lsn.format(first.flush)}`
      }
}

/** The verdict on the answers of `total` safekeepers, in the order of their arrival. */
export const decide = (total: number, answers: ReadonlyArray<SafekeeperAnswer>): Verdict => {
  const needed = quorum(total)
  const known: Array<Known> = []
  const failures: Array<string> = []
  let answered = 0
  for (const answer of answers) {
    if (answer._tag === "Failed") failures.push(answer.message)
    else answered++
    if (answer._tag === "Status") known.push(answer)
    if (answered === needed) return compare(known, answered)
    if (failures.length === needed) break
  }
  if (failures.length < needed && answers.length < total) return { _tag: "Undecided" }
  return {
    _tag: "NoQuorum",
    reason: `${answered} of ${total} safekeepers answered, ${needed} are needed: ${failures.join("; ")}`
  }
}
