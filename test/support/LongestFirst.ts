/**
 * The files that take long begin first, so that at the end no worker has one of them to itself.
 *
 * A clean clone knows no durations of earlier runs, so they are listed here, from the longest on. A name that is missing
 * or out of date costs seconds and nothing else.
 */
import { BaseSequencer, type TestSpecification } from "vitest/node"

export class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const sorted = await super.sort(files)
    return sorted.toSorted((a, b) => rank(a) - rank(b))
  }
}

// --- internal

const long: ReadonlyArray<string> = [
  "differential/DifferentialEmbedded",
  "differential/Differential",
  "drivers/embedded/Embedded.conformance",
  "layers/Composition",
  "drivers/postgres/Postgres.conformance",
  "examples/Testing",
  "differential/Faults",
  "layers/workflow/Workflow",
  "drivers/postgres/Installation",
  "examples/QuickstartEmbedded",
  "faults/Sigterm",
  "layers/Embedded",
  "layers/Cron",
  "package/Package",
  "layers/SmallPool",
  "differential/Outcomes",
  "layers/CrashedSagas",
  "layers/AnyStore",
  "layers/Mailbox",
  "layers/Client",
  "layers/Maintenance",
  "examples/Operations",
  "layers/workflow/Stress",
  "drivers/postgres/management/Queues",
  "drivers/postgres/management/Cleanup",
  "examples/Quickstart",
  "layers/BadInput",
  "layers/Program"
]

const rank = ({ moduleId }: TestSpecification): number => {
  const at = long.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`))
  return at < 0 ? long.length : at
}
