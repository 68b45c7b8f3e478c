/** How large the tables of the queue are, and what autovacuum has done to them. */
import type { Client } from "pg"
import { queue } from "../contestants/AbsurdTables.ts"

/** In bytes, rows and times. */
export interface Table {
  readonly table: number
  readonly indexes: number
  readonly live: number
  readonly dead: number
  readonly vacuums: number
}

/** By the name of the table; those of other queues and of none are left out. */
export const look = async (client: Client): Promise<Readonly<Record<string, Table>>> => {
  const { rows } = await client.query<Table & { readonly name: string }>(
    `select relname as name, pg_table_size(relid)::float8 as table, pg_indexes_size(relid)::float8 as indexes,
       n_live_tup::float8 as live, n_dead_tup::float8 as dead, autovacuum_count::int as vacuums
     from pg_stat_user_tables
     where schemaname = 'absurd' and relname like '_\\_' || $1
     order by relname`,
    [queue]
  )
  return Object.fromEntries(rows.map(({ name, ...table }) => [name, table]))
}

/** How many tasks have not ended, sleeping ones included. */
export const unfinished = async (client: Client): Promise<number> => {
  const { rows } = await client.query<{ count: number }>(
    `select count(*)::int as count from absurd.r_${queue} where state in ('pending', 'running', 'sleeping')`
  )
  return rows[0]!.count
}
