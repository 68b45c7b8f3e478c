-- Looking through the tasks of a queue, for people. The ids of tasks are in the order of spawning.

-- The newest of the tasks that match, each as read_task() gives it; null matches all. An outcome is that member of the result
-- of a completed task, if it is a text.
create or replace function absurd_effect.list_tasks(
  p_queue text,
  p_name text,
  p_states text[],
  p_outcome text,
  p_before uuid,
  p_limit integer
) returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    select absurd_effect.read_task($6, found.task_id)
    from (
      select task_id from absurd.%1$I
      where ($1 is null or task_name = $1) and ($2 is null or state = any ($2))
        and ($3 is null or (state = 'completed' and completed_payload -> 'outcome' = to_jsonb($3)))
        and ($4 is null or task_id < $4)
      order by task_id desc
      limit $5
    ) found
    order by found.task_id desc
  $q$) using p_name, p_states, p_outcome, p_before, p_limit, p_queue;
end;
$$;

-- How many tasks there are by name, state and outcome.
create or replace function absurd_effect.count_tasks(p_queue text)
returns table (name text, state text, outcome text, tasks bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    select t.task_name, t.state, case
        when t.state = 'completed' and jsonb_typeof(t.completed_payload -> 'outcome') = 'string'
        then t.completed_payload ->> 'outcome'
      end, count(*)
    from absurd.%1$I t
    group by 1, 2, 3
  $q$);
end;
$$;
