import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Groups, Journal, Ordered, Table } from "../../../src/drivers/memory/Table.ts"

interface Row {
  readonly group: string | null
  readonly at: number | null
}

const build = () => {
  const journal = new Journal()
  const table = new Table<string, Row>(journal)
  const groups = table.index(new Groups<string, Row>((row) => row.group))
  const ordered = table.index(new Ordered<string, Row>((row) => row.at))
  return { journal, table, groups, ordered }
}

const key = (n: number) => `k${n}`
const small = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4 }))
const Write = Schema.Struct({
  key: small,
  row: Schema.NullOr(Schema.Struct({ group: Schema.NullOr(Schema.Literals(["a", "b"])), at: Schema.NullOr(small) }))
})
const Writes = Schema.Array(Write).check(Schema.isMaxLength(40))

const write = (table: Table<string, Row>, writes: typeof Writes.Type) => {
  for (const { key: n, row } of writes) {
    if (row === null) table.delete(key(n))
    else table.set(key(n), row)
  }
}

/** The keys in the order of the index, which is emptied by that. */
const drain = ({ ordered, table }: ReturnType<typeof build>): ReadonlyArray<string> => {
  const found: Array<string> = []
  for (let first = ordered.first(Infinity); first !== undefined; first = ordered.first(Infinity)) {
    const row = first
    const name = [0, 1, 2, 3, 4].map(key).find((_) => table.get(_) === row) ?? assert.fail("a row of no key")
    found.push(name)
    table.delete(name)
  }
  return found
}

const read = ({ groups, ordered, table }: ReturnType<typeof build>) => ({
  rows: [0, 1, 2, 3, 4].map((n) => table.get(key(n))),
  size: table.size,
  groups: ["a", "b"].map((group) => [...groups.get(group)].sort()),
  timed: ordered.size
})

/** What {@link read} and {@link drain} have to give for a table that holds these rows. */
const model = (rows: ReadonlyMap<string, Row>) => {
  const entries = [...rows].sort(([a], [b]) => a < b ? -1 : 1)
  const timed = entries.flatMap(([name, { at }]) => at === null ? [] : [{ name, at }])
  return {
    read: {
      rows: [0, 1, 2, 3, 4].map((n) => rows.get(key(n))),
      size: rows.size,
      groups: ["a", "b"].map((group) => entries.filter(([, row]) => row.group === group).map(([name]) => name)),
      timed: timed.length
    },
    drained: timed.toSorted((a, b) => a.at - b.at || (a.name < b.name ? -1 : 1)).map(({ name }) => name)
  }
}

const apply = (rows: Map<string, Row>, writes: typeof Writes.Type) => {
  for (const { key: n, row } of writes) {
    if (row === null) rows.delete(key(n))
    else rows.set(key(n), row)
  }
  return rows
}

describe("a table", () => {
  it.effect.prop("and its indexes hold what was written last", { writes: Writes }, ({ writes }) =>
    Effect.sync(() => {
      const built = build()
      write(built.table, writes)
      const expected = model(apply(new Map(), writes))
      assert.deepStrictEqual(read(built), expected.read)
      assert.deepStrictEqual(drain(built), expected.drained)
    }), { arbitrary: { runs: 200 } })

  it.effect.prop(
    "and its indexes are after a rollback as they were, whatever was looked at meanwhile",
    { before: Writes, committed: Schema.Boolean, undone: Writes, looks: Schema.Boolean, after: Writes },
    ({ after, before, committed, looks, undone }) =>
      Effect.sync(() => {
        const built = build()
        write(built.table, before)
        if (committed) built.journal.commit()
        const position = built.journal.position
        write(built.table, undone)
        // Draining drops outdated entries from the heap, of rows that come back.
        if (looks) drain(built)
        built.journal.rollback(position)
        const rows = apply(new Map(), before)
        assert.deepStrictEqual(read(built), model(rows).read)
        write(built.table, after)
        const expected = model(apply(rows, after))
        assert.deepStrictEqual(read(built), expected.read)
        assert.deepStrictEqual(drain(built), expected.drained)
      }),
    { arbitrary: { runs: 200 } }
  )

  it("can be rolled back to each of several savepoints", () => {
    const { journal, table } = build()
    const positions = [1, 2, 3].map((at) => {
      const position = journal.position
      table.set("k0", { group: null, at })
      return position
    })
    for (const [place, at] of [[2, 2], [1, 1]] as const) {
      journal.rollback(positions[place]!)
      assert.strictEqual(table.get("k0")?.at, at)
    }
    journal.rollback(0)
    assert.isFalse(table.has("k0"))
  })

  it("is not changed by a rollback after a commit", () => {
    const { journal, table } = build()
    for (let n = 0; n < 200; n++) table.set(key(n), { group: null, at: n })
    journal.commit()
    assert.strictEqual(journal.position, 0)
    journal.rollback(0)
    assert.strictEqual(table.size, 200)
  })
})

describe("an ordered index", () => {
  it("gives nothing that is later than the limit", () => {
    const { ordered, table } = build()
    table.set("k0", { group: null, at: 10 })
    assert.isUndefined(ordered.first(9))
    assert.strictEqual(ordered.first(10), table.get("k0"))
    assert.strictEqual(ordered.first(10), table.get("k0"))
  })

  it.effect.prop(
    "selects by instant and key what is accepted, and keeps all",
    { writes: Writes, limit: small },
    (given) =>
      Effect.sync(() => {
        const built = build()
        write(built.table, given.writes)
        const accepts = (row: Row) => row.group !== "a"
        const { drained } = model(apply(new Map(), given.writes))
        const rows = drained.map((name) => built.table.get(name)!)
        for (const count of [0, 1, 2, 5]) {
          assert.deepStrictEqual(
            built.ordered.select(given.limit, count, accepts),
            rows.filter((row) => accepts(row) && (row.at ?? Infinity) <= given.limit).slice(0, count)
          )
        }
        assert.deepStrictEqual(drain(built), drained)
      }),
    { arbitrary: { runs: 200 } }
  )

  it("does not grow with the number of changes", () => {
    const { journal, ordered, table } = build()
    for (let n = 0; n < 10; n++) table.set(key(n), { group: null, at: 0 })
    for (let at = 1; at <= 10_000; at++) {
      table.set(key(at % 10), { group: null, at })
      journal.commit()
    }
    assert.strictEqual(ordered.size, 10)
    assert.isAtMost(ordered.entries, 2 * 10 + 64 + 1)
    assert.strictEqual(ordered.first(Infinity)?.at, 9_991)
  })
})
