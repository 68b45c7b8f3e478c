/**
 * Ids: UUIDv7 from a clock, in the order in which they are made.
 *
 * @since 0.1.0
 */
import type { Random } from "effect"

/**
 * Makes UUIDv7s, each of which sorts after the one before it.
 *
 * The milliseconds of the clock come first. Within one millisecond, and while the clock stands behind the last id, a counter
 * of 42 bits, begun at random, keeps the order. The rest is random, so stores do not share ids.
 *
 * @since 0.1.0
 * @category models
 */
export class Generator {
  private millis = -1
  /** The upper 26 bits of the counter, of which 14 are in the second part. */
  private high = 0
  /** The lower 16 bits of the counter. */
  private low = 0
  /** All digits before those of `low`. */
  private prefix = ""

  next(now: number, random: Random.Random): string {
    const clock = Math.min(Math.max(0, Math.floor(now)), 0xffff_ffff_ffff)
    if (clock > this.millis) this.begin(clock, random)
    else if (++this.low > 0xffff) this.carry(random)
    const tail = bits(random)
    return this.prefix + (hex16(this.low) + hex32(tail))
  }

  // The upper half of the counter is left to be counted through.
  private begin(millis: number, random: Random.Random): void {
    this.millis = millis
    this.high = bits(random) & 0x1ff_ffff
    this.low = bits(random) & 0xffff
    this.write()
  }

  private carry(random: Random.Random): void {
    if (this.high === 0x3ff_ffff) return this.begin(this.millis + 1, random)
    this.high++
    this.low = 0
    this.write()
  }

  private write(): void {
    const digits = this.millis.toString(16).padStart(12, "0")
    const version = hex16(0x7000 | (this.high >>> 14))
    const variant = hex16(0x8000 | (this.high & 0x3fff))
    this.prefix = `${digits.slice(0, 8)}-${digits.slice(8)}-${version}-${variant}-`
  }
}

// --- internal

const bits = (random: Random.Random): number => random.nextIntUnsafe() >>> 0

// All bytes as digits: every operation makes ids, and formatting numbers would be most of their price.
const bytes: ReadonlyArray<string> = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"))

const hex16 = (value: number): string => bytes[value >>> 8]! + bytes[value & 0xff]!

const hex32 = (value: number): string => hex16(value >>> 16) + hex16(value & 0xffff)
