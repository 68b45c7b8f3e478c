import { Layer } from "effect"
import * as MemoryDriver from "../../../src/drivers/memory/MemoryDriver.ts"
import * as Fixture from "../../conformance/Fixture.ts"
import * as Suites from "../../conformance/Suites.ts"
import * as TestTime from "../../support/TestTime.ts"

Suites.all(
  "the memory driver with partitioned queues",
  Layer.mergeAll(MemoryDriver.layer, TestTime.layerMemory, Layer.succeed(Fixture.Storage, "partitioned"))
)
