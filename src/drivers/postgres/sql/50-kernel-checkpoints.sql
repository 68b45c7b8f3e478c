-- Checkpoints as the driver writes them: a committed one is never changed.

-- Writes `state` as the checkpoint `name` of the run's task and makes the lease end `extend` seconds from now, or when it
-- ended before if that is later. Returns the items that wrote nothing: with `existing`, the committed state, when there
-- already was one (the lease is renewed all the same), else with the outcome.
create or replace function absurd_effect.set_checkpoints(p_queue text, p_items jsonb)
returns table (ord bigint, outcome text, existing jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
set plan_cache_mode = force_generic_plan
set datestyle = 'ISO'
as $$
declare
  v_now constant timestamptz := absurd.current_time();
  -- Called often for a few items, so what most calls do not need is not part of it. A join by any() can only look up the runs
  -- of the items, in their order.
  v_sql constant text := $q$
    with item as materialized (
      select (i.e ->> 'run')::uuid as run_id, i.ord, i.e ->> 'token' as token, i.e ->> 'name' as name,
        i.e -> 'state' as state, i.e -> 'extend' as extend
      from jsonb_array_elements($1) with ordinality i (e, ord)
      order by 1, 2
    ),
    held as materialized (
      select item.*, r.task_id
      from item
      join absurd.%2$I r on r.run_id = any (array[item.run_id]) and r.state = 'running' and r.claimed_by = item.token
      for update of r
    ), $q$ || case when jsonb_path_exists(p_items, '$[*].extend ? (@ != null)') then $q$
    lease as (
      update absurd.%2$I r
      set claim_expires_at = longest.until
      from (
        select run_id, $2 + make_interval(secs => max(extend::double precision)) as until
        from held
        where extend <> 'null'
        group by run_id
      ) longest
      where r.run_id = any (array[longest.run_id]) and r.claim_expires_at < longest.until
    ), $q$ else '' end || $q$
    written as (
      insert into absurd.%3$I (task_id, checkpoint_name, state, status, owner_run_id, updated_at)
      select task_id, name, state, 'committed', run_id, $2 from held
      on conflict (task_id, checkpoint_name) do nothing
      returning task_id, checkpoint_name
    )
    select array_agg(task_id), array_agg(checkpoint_name) from written
  $q$;
  v_tasks uuid[];
  v_names text[];
begin
  if absurd_effect.worth_preparing(p_queue, p_items) then
    execute 'execute ' || absurd_effect.prepared(p_queue, '(jsonb, timestamptz)', v_sql) || format('(%L, %L)', p_items, v_now)
      into v_tasks, v_names;
  else
    execute absurd_effect.bind(p_queue, v_sql) into v_tasks, v_names using p_items, v_now;
  end if;
  if cardinality(v_tasks) = jsonb_array_length(p_items) then
    return;
  end if;
  -- Hardly ever. A statement of its own, because a checkpoint may have been committed after the snapshot of the first one. The
  -- runs are locked, so they are as they were. What was there without being committed is overwritten.
  return query execute absurd_effect.bind(p_queue, $q$
    with item as materialized (
      select i.ord, i.e ->> 'name' as name, i.e -> 'state' as state, r.run_id, r.task_id,
        coalesce(r.state = 'running' and r.claimed_by = i.e ->> 'token', false) as applies,
        absurd_effect.refusal(r.state, t.state) as refusal
      from jsonb_array_elements($1) with ordinality i (e, ord)
      left join absurd.%2$I r on r.run_id = (i.e ->> 'run')::uuid
      left join absurd.%1$I t on t.task_id = r.task_id
    ),
    first as materialized (
      select distinct on (task_id, name) item.*, exists (
        select from unnest($3, $4) written (task_id, name)
        where written.task_id = item.task_id and written.name = item.name
      ) as written
      from item
      where applies
      order by task_id, name, run_id, ord
    ),
    overwritten as (
      update absurd.%3$I c
      set state = first.state, status = 'committed', owner_run_id = first.run_id, updated_at = $2
      from first
      where c.task_id = first.task_id and c.checkpoint_name = first.name and c.status <> 'committed'
      returning c.task_id, c.checkpoint_name, c.state
    )
    select item.ord, case when item.applies then 'applied' else item.refusal end,
      case when item.applies then coalesce(overwritten.state, c.state, 'null') end
    from item
    left join first on first.ord = item.ord
    left join overwritten on overwritten.task_id = item.task_id and overwritten.checkpoint_name = item.name
    left join absurd.%3$I c on c.task_id = item.task_id and c.checkpoint_name = item.name
    where first.ord is null or not first.written and overwritten.task_id is null
  $q$) using p_items, v_now, v_tasks, v_names;
end;
$$;
