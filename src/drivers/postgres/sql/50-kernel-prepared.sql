-- Statements that a session plans once for a queue, and not in every call.

-- The name, as an identifier, of the statement `p_sql` with the tables of a queue in it, prepared in this session: to be used
-- at once, in an `execute` with literals for the parameters of `p_types`. A session keeps the latest 64 of them, for it may
-- see very many queues. Whether it is there is looked up each time: poolers and programs discard what was prepared.
--
-- Planning has to be right for tables of any size, for it is not done again while they grow. So the caller sets its planner
-- as for tables that are large, and plan_cache_mode to force_generic_plan; and DateStyle to ISO, for other styles write
-- instants that are read as others.
create or replace function absurd_effect.prepared(p_queue text, p_types text, p_sql text) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_sql constant text := absurd_effect.bind(p_queue, p_sql);
  -- Of its text: one of another version of this schema has another name.
  v_name constant text := 'absurd_effect ' || md5(v_sql);
  v_oldest text;
begin
  if not exists (select from pg_prepared_statements where name = v_name) then
    for v_oldest in
      select name from pg_prepared_statements where starts_with(name, 'absurd_effect ') order by prepare_time desc offset 63
    loop
      execute format('deallocate %I', v_oldest);
    end loop;
    execute format('prepare %I %s as %s', v_name, p_types, v_sql);
  end if;
  return quote_ident(v_name);
end;
$$;

-- Whether a statement that is given `p_items` should be one of those. The items travel as a literal, which is read once more:
-- of many, planning is the smaller part. And while there are few rows, a planner reads them all where it will have to look
-- some up; of the partitions of a queue it cannot know how many there will be.
create or replace function absurd_effect.worth_preparing(p_queue text, p_items jsonb) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select pg_column_size(p_items) <= 32768 and pg_relation_size(format('absurd.%I', 'r_' || p_queue)::regclass) >= 524288
$$;
