import * as PlansSuite from "./PlansSuite.ts"

const size = 100_000

PlansSuite.suite("with 100,000 due, 200,000 finished and 100,000 sleeping runs, analysed", {
  mode: "unpartitioned",
  size,
  analysed: true
})

PlansSuite.suite("with the same, partitioned and never analysed", { mode: "partitioned", size, analysed: false })

PlansSuite.suite("with the same, partitioned and analysed", { mode: "partitioned", size, analysed: true })
