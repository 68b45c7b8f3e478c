import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect } from "effect"
import * as Instants from "../../../src/drivers/memory/Instants.ts"
import * as Fixture from "../../conformance/Fixture.ts"

const at = Date.UTC(2026, 0, 5, 0, 1, 30)

describe("an instant", () => {
  it.each([
    [at, "2026-01-05T00:01:30.000000Z", "2026-01-05T00:01:30+00:00"],
    [at + 250, "2026-01-05T00:01:30.250000Z", "2026-01-05T00:01:30.25+00:00"],
    [at + 250.125, "2026-01-05T00:01:30.250125Z", "2026-01-05T00:01:30.250125+00:00"]
  ])("%d has a text for checkpoints and one for reasons", (instant, iso, json) => {
    assert.strictEqual(Instants.toIso(instant), iso)
    assert.strictEqual(Instants.toJsonText(instant), json)
    assert.strictEqual(Instants.parse(iso), instant)
    assert.strictEqual(Instants.parse(json), instant)
  })

  it.each([
    ["2026-01-05T00:01:30Z", at],
    ["2026-01-05 00:01:30", at],
    ["2026-01-05T01:01:30+01:00", at],
    ["2026-01-04T18:31:30-0530", at],
    ["2026-01-05T02:01:30+02", at],
    ["2026-01-05T00:01:30.123456789Z", at + 123.457]
  ])("is read from %s", (text, instant) => {
    assert.strictEqual(Instants.parse(text), instant)
  })

  it.each(["", "soon", "5", "2026-01-05", "2026-13-05T00:00:00Z", "2026-01-05T00:01:30 CET"])(
    "is not read from %j",
    (text) => {
      assert.isUndefined(Instants.parse(text))
    }
  )

  it.effect.prop(
    "comes back from its text, to the microsecond",
    { micros: Fixture.between(0, 4_000_000_000_000) },
    ({ micros }) =>
      Effect.sync(() => {
        const instant = Instants.afterMillis(at, micros / 1000)
        assert.approximately(Instants.parse(Instants.toIso(instant)) ?? 0, instant, 0.0011)
      })
  )

  it("is cut to the last that there is", () => {
    assert.strictEqual(
      DateTime.formatIso(Instants.toDateTime(Instants.after(at, Duration.infinity))),
      "+275760-09-13T00:00:00.000Z"
    )
  })
})
