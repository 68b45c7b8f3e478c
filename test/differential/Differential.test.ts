import * as TestPostgres from "../support/Postgres.ts"
import * as Suite from "./Suite.ts"

// The embedded store has a file of its own, so that both are compared at the same time.
Suite.suite("PostgreSQL", TestPostgres.layer({ maxConnections: 1 }))
