/**
 * Tables of immutable rows whose writes can be undone, and the indexes on them.
 *
 * The only writes are {@link Table.set} and {@link Table.delete}. Each of them enters the row that was there before into
 * the journal, and tells every index what changed. Undoing is writing those rows back, newest first, so indexes follow a
 * rollback like any other change.
 *
 * @since 0.1.0
 */

/**
 * The rows that were replaced since the last commit.
 *
 * @since 0.1.0
 * @category models
 */
export class Journal {
  // Entries are used again, because every write of every operation makes one.
  private readonly entries: Array<{ undo: (key: unknown, row: unknown) => void; key: unknown; row: unknown }> = []
  private count = 0

  /** How many writes can be undone. A later {@link rollback} to this number is a savepoint. */
  get position(): number {
    return this.count
  }

  /** Remembers that `undo` has to be given `key` and `row` to take a write back. */
  record(undo: (key: unknown, row: unknown) => void, key: unknown, row: unknown): void {
    const entry = this.entries[this.count++]
    if (entry === undefined) {
      this.entries.push({ undo, key, row })
    } else {
      entry.undo = undo
      entry.key = key
      entry.row = row
    }
  }

  /** Takes back every write after `position`, the newest first. */
  rollback(position: number): void {
    while (this.count > position) {
      const { key, row, undo } = this.entries[--this.count]!
      undo(key, row)
    }
    this.forget()
  }

  /** Makes every write final. */
  commit(): void {
    this.count = 0
    this.forget()
  }

  // A large transaction must not keep its rows alive for ever.
  private forget(): void {
    if (this.entries.length > 64 && this.count === 0) this.entries.length = 0
  }
}

/**
 * The place of a row. It stays while the row is changed, and is left empty when the row is deleted.
 *
 * @since 0.1.0
 * @category models
 */
export interface Slot<K, R> {
  readonly key: K
  row: R | undefined
}

/**
 * What follows the rows of a table. It is told of every change after the table has it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Index<K, R> {
  readonly change: (slot: Slot<K, R>, previous: R | undefined, next: R | undefined) => void
}

/**
 * Rows by key. Rows are never mutated: a change is a new row under the same key.
 *
 * @since 0.1.0
 * @category models
 */
export class Table<K, R extends object> {
  private readonly slots = new Map<K, Slot<K, R>>()
  private readonly indexes: Array<Index<K, R>> = []
  private readonly journal: Journal
  private readonly undo: (key: unknown, row: unknown) => void
  private written = 0

  constructor(journal: Journal) {
    this.journal = journal
    // The journal gives back what this table entered.
    this.undo = (key, row) => this.put(key as K, row as R | undefined)
  }

  /** Adds an index to a table that is still empty. */
  index<I extends Index<K, R>>(index: I): I {
    this.indexes.push(index)
    return index
  }

  get(key: K): R | undefined {
    return this.slots.get(key)?.row
  }

  has(key: K): boolean {
    return this.slots.has(key)
  }

  get size(): number {
    return this.slots.size
  }

  /** How often something was written, or undone. As long as it stays the same, so do the rows. */
  get writes(): number {
    return this.written
  }

  /** The rows, in no order. */
  values(): ReadonlyArray<R> {
    return Array.from(this.slots.values()).flatMap(({ row }) => row ?? [])
  }

  set(key: K, row: R): void {
    this.journal.record(this.undo, key, this.put(key, row))
  }

  delete(key: K): void {
    if (this.slots.has(key)) this.journal.record(this.undo, key, this.put(key, undefined))
  }

  private put(key: K, row: R | undefined): R | undefined {
    this.written++
    const slot = this.slots.get(key)
    if (slot === undefined) return this.insert(key, row)
    const previous = slot.row
    slot.row = row
    if (row === undefined) this.slots.delete(key)
    this.tell(slot, previous, row)
    return previous
  }

  private insert(key: K, row: R | undefined): undefined {
    const slot = { key, row }
    if (row !== undefined) this.slots.set(key, slot)
    this.tell(slot, undefined, row)
  }

  private tell(slot: Slot<K, R>, previous: R | undefined, row: R | undefined): void {
    const indexes = this.indexes
    for (let place = 0; place < indexes.length; place++) indexes[place]!.change(slot, previous, row)
  }
}

/**
 * The keys of the rows that share a value; rows without one are not in it.
 *
 * @since 0.1.0
 * @category models
 */
export class Groups<K extends string, R extends object> implements Index<K, R> {
  // Most groups are of one, which needs no set.
  private readonly groups = new Map<string, K | Set<K>>()
  private readonly valueOf: (row: R) => string | null

  constructor(valueOf: (row: R) => string | null) {
    this.valueOf = valueOf
  }

  /** The keys with this value. Follows the table, also while it is iterated: rows may be deleted then, but not added. */
  get(value: string): Iterable<K> {
    const group = this.groups.get(value)
    if (group === undefined) return none
    return typeof group === "string" ? [group] : group
  }

  /** How many rows have this value. */
  count(value: string): number {
    const group = this.groups.get(value)
    return group === undefined ? 0 : typeof group === "string" ? 1 : group.size
  }

  change({ key }: Slot<K, R>, previous: R | undefined, next: R | undefined): void {
    const from = previous === undefined ? null : this.valueOf(previous)
    const to = next === undefined ? null : this.valueOf(next)
    if (from === to) return
    if (from !== null) this.remove(from, key)
    if (to !== null) this.add(to, key)
  }

  private add(value: string, key: K): void {
    const group = this.groups.get(value)
    if (group === undefined) this.groups.set(value, key)
    else if (typeof group === "string") this.groups.set(value, new Set([group, key]))
    else group.add(key)
  }

  private remove(value: string, key: K): void {
    const group = this.groups.get(value)
    if (typeof group === "object") group.delete(key)
    if (group === key || (typeof group === "object" && group.size === 0)) this.groups.delete(value)
  }
}

const none: ReadonlyArray<never> = []

interface Entry<K, R> {
  readonly at: number
  readonly slot: Slot<K, R>
}

/**
 * Rows by an instant, then by key; rows without an instant are not in it.
 *
 * A binary heap that forgets lazily: an entry counts only while its row still has the instant with which it was entered.
 * Changing a row costs the logarithm of the rows in the index, and nothing for rows outside it. Outdated entries are swept
 * out once they outnumber the others.
 *
 * @since 0.1.0
 * @category models
 */
export class Ordered<K extends string, R extends object> implements Index<K, R> {
  private heap: Array<Entry<K, R>> = []
  private live = 0
  private readonly instantOf: (row: R) => number | null

  constructor(instantOf: (row: R) => number | null) {
    this.instantOf = instantOf
  }

  /** How many rows have an instant. */
  get size(): number {
    return this.live
  }

  /** How many entries are kept, outdated ones included. */
  get entries(): number {
    return this.heap.length
  }

  /** The first row, or undefined when there is none whose instant is at most `limit`. */
  first(limit: number): R | undefined {
    for (let top = this.heap[0]; top !== undefined; top = this.heap[0]) {
      if (this.counts(top)) return top.at <= limit ? top.slot.row : undefined
      this.dropFirst()
    }
    return undefined
  }

  /**
   * The first instant after `limit`, or undefined when there is none. Costs nothing while no row has an earlier one, else
   * one look at each entry.
   */
  firstAfter(limit: number): number | undefined {
    if (this.first(limit) === undefined) return this.heap[0]?.at
    let next: number | undefined
    for (const entry of this.heap) {
      if (entry.at > limit && (next === undefined || entry.at < next) && this.counts(entry)) next = entry.at
    }
    return next
  }

  /**
   * The first `count` rows that are accepted, whose instants are at most `limit`. Costs the logarithm for each row that is
   * looked at.
   */
  select(limit: number, count: number, accepts: (row: R) => boolean): ReadonlyArray<R> {
    const found: Array<R> = []
    const seen: Array<Entry<K, R>> = []
    while (found.length < count) {
      const row = this.first(limit)
      const top = this.heap[0]
      if (row === undefined || top === undefined) break
      this.dropFirst()
      // Entries of one row with one instant follow each other.
      if (seen.at(-1)?.slot === top.slot) continue
      seen.push(top)
      if (accepts(row)) found.push(row)
    }
    for (const entry of seen) this.enter(entry)
    return found
  }

  change(slot: Slot<K, R>, previous: R | undefined, next: R | undefined): void {
    const from = previous === undefined ? null : this.instantOf(previous)
    const to = next === undefined ? null : this.instantOf(next)
    if (from === to) return
    if (from !== null) this.live--
    if (to !== null) {
      this.live++
      this.enter({ at: to, slot })
    }
    if (this.heap.length > 2 * this.live + 64) this.sweep()
  }

  private enter(entry: Entry<K, R>): void {
    this.heap.push(entry)
    this.rise(this.heap.length - 1)
  }

  private counts({ at, slot }: Entry<K, R>): boolean {
    return slot.row !== undefined && this.instantOf(slot.row) === at
  }

  // A row may have several entries with its instant, when it had that instant before.
  private sweep(): void {
    const kept = new Map<Slot<K, R>, Entry<K, R>>()
    for (const entry of this.heap) {
      if (this.counts(entry)) kept.set(entry.slot, entry)
    }
    this.heap = [...kept.values()]
    for (let place = (this.heap.length >> 1) - 1; place >= 0; place--) this.sink(place)
  }

  private dropFirst(): void {
    const last = this.heap.pop()
    if (last !== undefined && this.heap.length > 0) {
      this.heap[0] = last
      this.sink(0)
    }
  }

  private rise(from: number): void {
    const heap = this.heap
    const entry = heap[from]!
    let place = from
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!before(entry, heap[parent]!)) break
      heap[place] = heap[parent]!
      place = parent
    }
    heap[place] = entry
  }

  private sink(from: number): void {
    const heap = this.heap
    const entry = heap[from]!
    let place = from
    for (;;) {
      let child = 2 * place + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
      if (!before(heap[child]!, entry)) break
      heap[place] = heap[child]!
      place = child
    }
    heap[place] = entry
  }
}

// --- internal

const before = <K extends string, R>(a: Entry<K, R>, b: Entry<K, R>): boolean =>
  a.at < b.at || (a.at === b.at && a.slot.key < b.slot.key)
