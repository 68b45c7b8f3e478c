/** That the verdict of the crash test finds what it is there to find, and never passes on nothing. */
import { assert, describe, it } from "@effect/vitest"
import * as Ledger from "./crash/Ledger.ts"
import * as Verdict from "./crash/Verdict.ts"

const lease = 2000

/** Sixty workers die one second after the other, each with one run in hand, and all is as it should be. */
const good: Verdict.Facts = {
  lease,
  pollInterval: 50,
  done: { kill: 60, server: 4, zombie: 10 },
  deaths: Array.from({ length: 60 }, (_, pid) => ({ pid, at: pid * 1000 })),
  stops: [{ pid: 100, from: 10_000, until: 13_000 }],
  outages: [{ from: 100_000, until: 105_000 }],
  restarts: [1, 2, 3, 4].map((n) => ({ at: n * 1000, claimedAt: n * 1000 + 700 })),
  burnt: Array.from({ length: 60 }, (_, pid) => ({
    n: pid,
    pid,
    expiredAt: pid * 1000 + 1900,
    foundAt: pid * 1000 + 1950
  })),
  attempts: [...Array.from({ length: 60 }, () => 2), 1, 1, 1],
  failed: [],
  repeated: [],
  lines: [],
  acknowledged: 378
}

const change = (facts: Partial<Verdict.Facts>) => Verdict.problems({ ...good, ...facts })

/** The same with another run that was burnt. */
const burning = (one: Verdict.Burnt, more: Partial<Verdict.Facts> = {}) =>
  change({ burnt: [...good.burnt, one], attempts: [...good.attempts, 2], ...more })

describe("the verdict of the crash test", () => {
  it("has nothing against what is as promised, and tells the figures", () => {
    assert.deepStrictEqual(Verdict.problems(good), [])
    assert.deepStrictEqual(Verdict.figures(good), {
      attemptsPerTask: { count: 63, p50: 2, p99: 2, max: 2 },
      attemptsBurnt: 60,
      attemptsFailed: 0,
      attemptsBurntWithoutReason: 0,
      takeUpMillis: { count: 60, p50: 1950, p99: 1950, max: 1950 },
      firstClaimAfterRestartMillis: [700, 700, 700, 700]
    })
  })

  it("passes on no empty sample", () => {
    for (
      const empty of [
        { done: {} },
        { deaths: [] },
        { burnt: [] },
        { restarts: [] },
        { attempts: [] },
        { acknowledged: 0 },
        { burnt: [], attempts: [1, 1, 1] }
      ]
    ) {
      assert.isNotEmpty(change(empty), JSON.stringify(empty))
    }
    assert.isAtLeast(
      Verdict.problems({
        ...good,
        done: {},
        deaths: [],
        stops: [],
        outages: [],
        restarts: [],
        burnt: [],
        attempts: [],
        acknowledged: 0
      }).length,
      8
    )
  })

  it("wants enough of each deed", () => {
    for (const [deed, times] of Object.entries(Verdict.least)) {
      assert.deepStrictEqual(
        change({ done: { ...good.done, [deed]: times - 1 } }).filter((problem) => problem.startsWith(deed)),
        [`${deed}: ${times - 1} times, and ${times} are needed`]
      )
    }
  })

  it("wants what dead workers had taken up within a lease and a poll, of the time in which the store can be asked", () => {
    const late = { n: 70, pid: 59, expiredAt: 61_000, foundAt: 63_000 }
    assert.deepStrictEqual(burning(late), [
      "1% of what dead workers had was taken up after 4000 ms or more",
      "something of a dead worker was taken up after 4000 ms"
    ])
    assert.deepStrictEqual(
      burning(late, { outages: [{ from: 60_500, until: 61_500 }, { from: 61_400, until: 62_990 }] }),
      []
    )
    // A lease that was longer than it may have been.
    assert.isNotEmpty(burning({ n: 70, pid: 59, expiredAt: 63_000, foundAt: 63_000 }))
  })

  it("wants a claim within two seconds after each restart", () => {
    for (const claimedAt of [undefined, 3000 + Verdict.recovery]) {
      const restarts = [...good.restarts.slice(0, 3), { at: 3000, claimedAt }]
      assert.lengthOf(change({ restarts }), 1)
    }
  })

  it("wants a reason for each attempt that was spent", () => {
    const of = (pid: number, expiredAt: number) => {
      const few = Array.from({ length: 7 }, () => ({ n: 70, pid, expiredAt, foundAt: expiredAt + 10 }))
      return (count: number) =>
        change({
          burnt: [...good.burnt, ...few.slice(0, count)],
          attempts: [...good.attempts, ...few.slice(0, count).map(() => 2)]
        })
    }
    // Processes that get no processor may lose a few.
    assert.lengthOf(of(200, 50_000)(6), 0)
    assert.lengthOf(of(200, 50_000)(7), 7)
    // It was stopped, but not then.
    assert.lengthOf(of(100, 50_000)(7), 7)
    assert.deepStrictEqual(of(100, 12_000)(7), [])
    assert.deepStrictEqual(of(200, 103_000)(7), [])
    assert.deepStrictEqual(change({ attempts: [...good.attempts.slice(10), 11] }), [
      "a task took 11 attempts"
    ])
    // There was an attempt more than leases have ended.
    assert.lengthOf(change({ attempts: [...good.attempts, 2] }), 1)
    const failing = (at: number) => change({ attempts: [...good.attempts, 2], failed: [{ n: 70, at, reason: "cut" }] })
    assert.deepStrictEqual(failing(101_000), [])
    assert.deepStrictEqual(failing(1000), ["task 70 failed at 1000, when the store could be reached: cut"])
  })

  it("wants no step begun again after it was acknowledged", () => {
    const line = { at: 1, pid: 1, what: "begin", n: 3, detail: "four" } as const
    assert.deepStrictEqual(change({ repeated: [line], lines: [line] }), [
      "step four of task 3 was begun again at 1 by 1:\n1 1 begin four"
    ])
  })
})

describe("the ledger of the crash test", () => {
  const line = (at: number, pid: number, what: Ledger.Line["what"], detail: string) => ({ at, pid, what, n: 1, detail })
  const done = [line(10, 1, "begin", "one"), line(20, 1, "done", "one=x")]

  it("finds a step that was begun again after it was acknowledged, wherever the line is", () => {
    const again = line(21, 2, "begin", "one")
    assert.deepStrictEqual(Ledger.judge([...done, again]).repeated, [again])
    assert.deepStrictEqual(Ledger.judge([again, ...done]).repeated, [again])
    assert.deepStrictEqual(Ledger.judge([...done, line(20, 2, "begin", "one")]).repeated.length, 1)
    assert.deepStrictEqual(Ledger.judge(done).repeated, [])
  })

  it("does not blame a process that was stopped while it wrote down what it had begun before", () => {
    assert.deepStrictEqual(Ledger.judge([...done, line(9, 2, "begin", "one")]).repeated, [])
  })

  it("finds another value than the first, and has no figures of nothing", () => {
    const other = line(30, 2, "done", "one=y")
    assert.deepStrictEqual(Ledger.judge([...done, other]).changed, [other])
    assert.strictEqual(Ledger.quantile([], 0.5), Infinity)
    assert.strictEqual(Ledger.quantile([3, 1, 2], 0.5), 2)
  })
})
