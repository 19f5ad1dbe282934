import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import * as Lsn from "../../src/domain/Lsn.ts"
import { decide, quorum, type SafekeeperAnswer } from "../../src/domain/SafekeeperQuorum.ts"

const at = (flush: bigint, commit: bigint = flush): SafekeeperAnswer => ({
  _tag: "Status",
  flush: Lsn.fromBigInt(flush),
  commit: Lsn.fromBigInt(commit)
})
const unknown: SafekeeperAnswer = { _tag: "Unknown" }
const failed: SafekeeperAnswer = { _tag: "Failed", message: "sk: timed out" }

/** Answers of a few safekeepers at one of three positions. */
const Answers = Arbitrary.map(
  Arbitrary.array(Arbitrary.schema(Schema.Literals([0, 1, 2, 3, 4])), { maxLength: 7 }),
  (kinds) => kinds.map((kind) => (kind === 3 ? unknown : kind === 4 ? failed : at(BigInt(kind))))
)

describe("SafekeeperQuorum", () => {
  it.each([
    [1, 1],
    [2, 2],
    [3, 2],
    [4, 3],
    [5, 3]
  ])("of %i safekeepers %i decide", (total, needed) => {
    assert.strictEqual(quorum(total), needed)
  })

  it("S-031 a quorum that agrees spares the sync, whatever the others say", () => {
    assert.deepStrictEqual(decide(3, [at(5n), failed, at(5n)]), { _tag: "Synced", lsn: Lsn.fromBigInt(5n) })
    assert.deepStrictEqual(decide(1, [at(0n)]), { _tag: "Synced", lsn: Lsn.zero })
  })

  it.each<[string, ReadonlyArray<SafekeeperAnswer>]>([
    ["Only 1 out of 2 know about this timeline", [at(5n), unknown]],
    ["commit_lsn differs: 0/5 0/6", [at(6n), at(5n)]],
    ["flush_lsn differs: 0/5 0/6", [at(5n, 4n), at(6n, 4n)]],
    ["commit_lsn 0/4 is not flush_lsn 0/5", [at(5n, 4n), at(5n, 4n)]]
  ])("not synced: %s", (reason, answers) => {
    assert.deepStrictEqual(decide(3, answers), { _tag: "NotSynced", reason })
  })

  it("failures of a quorum, or of so many that none is left, end the wait", () => {
    assert.deepStrictEqual(decide(3, [failed, failed]), {
      _tag: "NoQuorum",
      reason: "0 of 3 safekeepers answered, 2 are needed: sk: timed out; sk: timed out"
    })
    assert.strictEqual(decide(2, [at(5n), failed])._tag, "NoQuorum")
    assert.strictEqual(decide(0, [])._tag, "NoQuorum")
  })

  it("before that nothing is decided", () => {
    assert.strictEqual(decide(3, [])._tag, "Undecided")
    assert.strictEqual(decide(3, [at(5n), failed])._tag, "Undecided")
  })

  it.prop("what arrives after the verdict does not change it", [Answers], ([answers]) => {
    const verdicts = answers.map((_, count) => decide(answers.length, answers.slice(0, count + 1)))
    const first = verdicts.findIndex(({ _tag }) => _tag !== "Undecided")
    for (const verdict of verdicts.slice(Math.max(first, 0))) assert.deepStrictEqual(verdict, verdicts[first])
  })

  it.prop("once all have spoken there is a verdict", [Answers], ([answers]) => {
    assert.notStrictEqual(decide(answers.length, answers)._tag, "Undecided")
  })

  it.prop("synced means that a quorum said so", [Answers], ([answers]) => {
    const verdict = decide(answers.length, answers)
    if (verdict._tag !== "Synced") return
    const agreeing = answers.filter(
      (answer) => answer._tag === "Status" && answer.flush === verdict.lsn && answer.commit === verdict.lsn
    )
    assert.isAtLeast(agreeing.length, quorum(answers.length))
  })
})
