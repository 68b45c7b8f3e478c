import * as PlansSuite from "./PlansSuite.ts"

PlansSuite.suite("with 100,000 due, 200,000 finished and 100,000 sleeping runs, never analysed", {
  mode: "unpartitioned",
  size: 100_000,
  analysed: false
})

PlansSuite.suite("with a fifth of it, analysed", { mode: "unpartitioned", size: 20_000, analysed: true })

PlansSuite.suite("with a twentieth of it, partitioned and never analysed", {
  mode: "partitioned",
  size: 5000,
  analysed: false
})

PlansSuite.suite("with a twentieth of it, partitioned and analysed", {
  mode: "partitioned",
  size: 5000,
  analysed: true
})
