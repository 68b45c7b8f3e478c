-- Waiting for tasks.
--
-- Who waits holds the tasks FOR SHARE until it has registered; who ends a task has changed or locked it before it looks who waits.
-- So no end is missed. A registered wait for a task is a row of the waits: its step is the wait's with ':' and the task's id
-- behind it, its event '$task:' and the id when the wait is over as soon as one of the tasks has not completed, else
-- '$settled:' and the id.

-- Looks at the waits for tasks among `p_waits`, {"step", "queue", "tasks", "failFast"}, and holds those tasks of the queue
-- that have not ended. Returns {"over", "recheck" seconds} by step.
create or replace function absurd_effect.hold_awaited(p_queue text, p_waits jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_now timestamptz := absurd.current_time();
  v_queue text;
  v_found jsonb;
  v_all jsonb := '{}';
begin
  -- In the order in which ending locks them, which is that of their runs.
  execute absurd_effect.bind(p_queue, $q$
    select from absurd.%1$I t
    where t.state not in ('completed', 'failed', 'cancelled') and t.task_id = any (array(
      select id::uuid
      from jsonb_array_elements($1) w, jsonb_array_elements_text(w -> 'tasks') id
      where w ->> 'queue' = $2
    ))
    order by t.last_attempt_run
    for share
  $q$) using p_waits, p_queue;
  for v_queue in select distinct w ->> 'queue' from jsonb_array_elements(p_waits) w where w ? 'tasks' loop
    -- In a queue that does not exist there are no tasks that could be waited for.
    if to_regclass(format('absurd.%I', 't_' || v_queue)) is null then
      select jsonb_object_agg(w ->> 'step', '{"over": true}'::jsonb) into v_found
      from jsonb_array_elements(p_waits) w
      where w ? 'tasks' and w ->> 'queue' = v_queue;
      v_all := v_all || v_found;
      continue;
    end if;
    execute absurd_effect.bind(v_queue, $q$
      select jsonb_object_agg(step, jsonb_build_object(
        'over', open = 0 or (fail_fast and failed),
        'recheck', least(greatest(extract(epoch from $3 - since) / 2, $4), $5)
      ))
      from (
        select w ->> 'step' as step, (w ->> 'failFast')::boolean as fail_fast,
          count(t.task_id) filter (where t.state not in ('completed', 'failed', 'cancelled')) as open,
          coalesce(bool_or(t.state in ('failed', 'cancelled')), false) as failed,
          min(t.enqueue_at) filter (where t.state not in ('completed', 'failed', 'cancelled')) as since
        from jsonb_array_elements($1) w
        left join jsonb_array_elements_text(w -> 'tasks') id on true
        left join absurd.%1$I t on t.task_id = id::uuid
        where w ->> 'queue' = $2
        group by 1, 2
      ) looked
    $q$) into v_found using p_waits, v_queue, v_now,
      case when v_queue = p_queue then 60 else 1 end, case when v_queue = p_queue then 3600 else 30 end;
    v_all := v_all || coalesce(v_found, '{}');
  end loop;
  return v_all;
end;
$$;

-- Registers the waits for tasks of the queue itself. What it waits for is held.
create or replace function absurd_effect.await_tasks(
  p_queue text,
  p_task uuid,
  p_run uuid,
  p_waits jsonb,
  p_now timestamptz
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
begin
  execute absurd_effect.bind(p_queue, $q$
    insert into absurd.%5$I (task_id, run_id, step_name, event_name, timeout_at, created_at)
    select $1, $2, (w ->> 'step') || ':' || t.task_id,
      case when (w ->> 'failFast')::boolean then '$task:' else '$settled:' end || t.task_id, null, $3
    from jsonb_array_elements($4) w
    cross join jsonb_array_elements_text(w -> 'tasks') id
    join absurd.%1$I t on t.task_id = id::uuid
    where w ->> 'queue' = $5 and t.state not in ('completed', 'failed', 'cancelled')
    on conflict (run_id, step_name) do update
      set task_id = excluded.task_id, event_name = excluded.event_name, timeout_at = excluded.timeout_at,
        created_at = excluded.created_at
  $q$) using p_task, p_run, p_now, p_waits, p_queue;
end;
$$;

-- The names of the events that waits for these tasks bear.
create or replace function absurd_effect.waits_for(p_tasks uuid[]) returns text[]
language sql immutable
as $$
  select array(
    select prefix || id from pg_catalog.unnest(p_tasks) id, pg_catalog.unnest(array['$task:', '$settled:']) prefix
  )
$$;

-- Makes every run pending of which a wait is over now that these tasks, which the caller has locked, have ended.
create or replace function absurd_effect.wake_awaiting(p_queue text, p_tasks uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $$
declare
  v_names text[];
  v_awaited boolean;
  v_runs uuid[];
  v_steps text[];
  v_failed boolean[];
begin
  if p_tasks is null or cardinality(p_tasks) = 0 then
    return;
  end if;
  v_names := absurd_effect.waits_for(p_tasks);
  -- Mostly nobody waits, and to know that costs much less than planning what follows.
  execute absurd_effect.bind(p_queue, 'select exists (select from absurd.%5$I where event_name = any ($1))')
    into v_awaited using v_names;
  if not v_awaited then
    return;
  end if;
  execute absurd_effect.bind(p_queue, $q$
    select array_agg(run_id) from (
      select r.run_id
      from absurd.%2$I r
      join absurd.%1$I t on t.task_id = r.task_id
      where r.run_id = any (array(select w.run_id from absurd.%5$I w where w.event_name = any ($1)))
      order by greatest(r.run_id, r.run_id)
      for update of r, t
    ) held
  $q$) into v_runs using v_names;
  if v_runs is null then
    return;
  end if;
  -- A new statement: the waits as they are now that nobody can change these runs. A run may wait for very many tasks, so
  -- they are found by the names of those that have ended, and never by the run, which nullif() keeps from being looked up.
  execute absurd_effect.bind(p_queue, $q$
    with ended as materialized (
      delete from absurd.%5$I w where nullif(w.run_id, $3) = any ($2) and w.event_name = any ($1)
      returning w.run_id, left(w.step_name, -37) as step, w.event_name
    ),
    looked as materialized (
      select ended.run_id, ended.step, bool_or(event_name like '$task:%%' and t.state <> 'completed') as failed
      from ended
      join absurd.%1$I t on t.task_id = right(ended.event_name, 36)::uuid
      group by ended.run_id, ended.step
    )
    select array_agg(run_id), array_agg(step), array_agg(failed) from looked
  $q$) into v_runs, v_steps, v_failed using v_names, v_runs, '00000000-0000-0000-0000-000000000000'::uuid;
  if v_runs is null then
    return;
  end if;
  -- One wait that is left is enough to know that a run sleeps on. It is looked for from the end: tasks mostly end in the order
  -- of their ids, and what they leave behind in the index need not be passed then.
  execute absurd_effect.bind(p_queue, $q$
    select array_agg(looked.run_id)
    from unnest($1, $2, $3) looked (run_id, step, failed)
    join absurd.%2$I r on r.run_id = looked.run_id and r.state = 'sleeping'
    where looked.failed or (
      select w.step_name from absurd.%5$I w
      where w.run_id = looked.run_id and (w.event_name like '$task:%%' or w.event_name like '$settled:%%')
        and left(w.step_name, -37) = looked.step
      order by w.step_name desc
      limit 1
    ) is null
  $q$) into v_runs using v_runs, v_steps, v_failed;
  if v_runs is null then
    return;
  end if;
  execute absurd_effect.bind(p_queue, $q$
    with run as (
      update absurd.%2$I
      set state = 'pending', available_at = $2, wake_event = null, event_payload = null, claimed_by = null,
        claim_expires_at = null
      where run_id = any ($1)
      returning task_id
    ),
    task as (
      update absurd.%1$I t set state = 'pending' from run where t.task_id = run.task_id
    )
    delete from absurd.%5$I where run_id = any ($1)
  $q$) using v_runs, absurd.current_time();
  perform absurd_effect.hint_work(p_queue);
end;
$$;
