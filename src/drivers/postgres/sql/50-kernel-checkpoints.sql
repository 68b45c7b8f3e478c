-- Checkpoints as the driver writes them: a committed one is never changed.

-- Writes `state` as the checkpoint `name` of the run's task and makes the lease end `extend` seconds from now, or when it
-- ended before if that is later. Returns the items that wrote nothing: with `existing`, the committed state, when there
-- already was one (the lease is renewed all the same), else with the outcome.
create or replace function absurd_effect.set_checkpoints(p_queue text, p_items jsonb)
returns table (ord bigint, outcome text, existing jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_rest jsonb;
begin
  -- Planned anew in each call, often for a few items, so it has no table in it that most calls do not need.
  execute absurd_effect.bind(p_queue, $q$
    with item as materialized (
      select i.ord, (i.e ->> 'run')::uuid as run_id, i.e ->> 'token' as token, i.e ->> 'name' as name,
        i.e -> 'state' as value, $2 + make_interval(secs => (i.e ->> 'extend')::double precision) as until
      from jsonb_array_elements($1) with ordinality i (e, ord)
    ),
    held as materialized (
      select item.*, r.task_id, r.state = 'running' and r.claimed_by = item.token as applies
      from item
      join absurd.%2$I r on r.run_id = item.run_id
      order by greatest(r.run_id, r.run_id), item.ord
      for update of r
    ),
    first as materialized (
      select distinct on (held.task_id, held.name) held.* from held where held.applies
      order by held.task_id, held.name, held.ord
    ),
    written as (
      insert into absurd.%3$I as c (task_id, checkpoint_name, state, status, owner_run_id, updated_at)
      select task_id, name, value, 'committed', run_id, $2 from first
      on conflict (task_id, checkpoint_name) do update
        set state = excluded.state, status = excluded.status, owner_run_id = excluded.owner_run_id,
          updated_at = excluded.updated_at
        where c.status <> 'committed'
      returning c.task_id, c.checkpoint_name
    ) $q$ || case when jsonb_path_exists(p_items, '$[*].extend ? (@ != null)') then $q$,
    lease as (
      update absurd.%2$I r
      set claim_expires_at = longest.until
      from (select held.run_id, max(held.until) as until from held where held.applies group by held.run_id) longest
      where r.run_id = longest.run_id and r.claim_expires_at < longest.until
    ) $q$ else '' end || $q$
    select jsonb_agg(jsonb_build_object(
      'ord', item.ord,
      'run', item.run_id,
      'applies', held.applies,
      'task', held.task_id,
      'name', item.name
    ))
    from item
    left join held on held.ord = item.ord
    left join (
      first join written on written.task_id = first.task_id and written.checkpoint_name = first.name
    ) on first.ord = item.ord
    where first.ord is null
  $q$) into v_rest using p_items, absurd.current_time();
  if v_rest is null then
    return;
  end if;
  -- A statement of its own, because the checkpoint may have been committed after the snapshot of the first one. The runs are
  -- locked, so they are as they were.
  return query execute absurd_effect.bind(p_queue, $q$
    select x.ord,
      case when x.applies then 'applied' else absurd_effect.refusal(r.state, t.state) end,
      case when x.applies then coalesce(c.state, 'null') end
    from jsonb_to_recordset($1) x (ord bigint, run uuid, applies boolean, task uuid, name text)
    left join absurd.%3$I c on c.task_id = x.task and c.checkpoint_name = x.name
    left join absurd.%2$I r on r.run_id = x.run
    left join absurd.%1$I t on t.task_id = r.task_id
  $q$) using v_rest;
end;
$$;
