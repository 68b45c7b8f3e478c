import { Layer } from "effect"
import * as Suites from "../../conformance/Suites.ts"
import * as CheckedMemory from "../../support/CheckedMemory.ts"
import * as TestTime from "../../support/TestTime.ts"

Suites.all("the memory driver", Layer.merge(CheckedMemory.layer, TestTime.layerMemory))
