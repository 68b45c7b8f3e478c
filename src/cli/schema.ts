/**
 * Prints the SQL that installs the schema: `npm run --silent schema | psql -X -v ON_ERROR_STOP=1 -f -`.
 *
 * With `--additive`, the SQL for a database where the schema `absurd` comes from another installation of Absurd.
 *
 * @since 0.1.0
 */
import { additiveScript, script } from "../drivers/postgres/Installation.ts"

process.stdout.write(process.argv.includes("--additive") ? additiveScript : script)
