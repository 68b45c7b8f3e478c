-- The wire door to checkpoints.

-- Writes a checkpoint of a running run's own task, over an older one unless a newer attempt owns it. A positive
-- `p_extend_claim_by` makes the lease end so many seconds from now. The run is locked first, so that an attempt that has
-- just been given up can no longer write.
create or replace function absurd.set_task_checkpoint_state(
  p_queue_name text,
  p_task_id uuid,
  p_step_name text,
  p_state jsonb,
  p_owner_run uuid,
  p_extend_claim_by integer default null
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz;
  v_run record;
begin
  if p_step_name is null or btrim(p_step_name) = '' then
    raise exception 'step_name must be provided';
  end if;
  execute absurd_effect.bind(p_queue_name, 'select from absurd.%2$I where run_id = $1 for update') using p_owner_run;
  select * into v_run from absurd_effect.states(p_queue_name, p_owner_run);
  if v_run.run_state is null then
    raise exception 'Run "%" not found for checkpoint', p_owner_run;
  elsif v_run.task_state = 'cancelled' or v_run.run_state <> 'running' then
    perform absurd_effect.refuse(
      p_queue_name, p_owner_run, case when v_run.task_state = 'cancelled' then 'cancelled' else v_run.run_state end,
      'Run "%1$s" is not currently running in queue "%2$s"'
    );
  elsif v_run.task_id is distinct from p_task_id then
    raise exception 'Run "%" does not belong to task "%"', p_owner_run, p_task_id;
  end if;
  v_now := absurd.current_time();
  if p_extend_claim_by > 0 and v_run.claim_expires_at is not null then
    execute absurd_effect.bind(p_queue_name, 'update absurd.%2$I set claim_expires_at = $2 where run_id = $1')
      using p_owner_run, v_now + make_interval(secs => p_extend_claim_by);
  end if;
  execute absurd_effect.bind(p_queue_name, $q$
    insert into absurd.%3$I as c (task_id, checkpoint_name, state, status, owner_run_id, updated_at)
    values ($1, $2, $3, 'committed', $4, $5)
    on conflict (task_id, checkpoint_name) do update
      set state = excluded.state, status = excluded.status, owner_run_id = excluded.owner_run_id,
        updated_at = excluded.updated_at
      where not exists (select from absurd.%2$I o where o.run_id = c.owner_run_id and o.attempt > $6)
  $q$) using p_task_id, p_step_name, p_state, p_owner_run, v_now, v_run.attempt;
end;
$$;

-- The checkpoint of a step, committed ones only unless asked otherwise. Zero or one row.
create or replace function absurd.get_task_checkpoint_state(
  p_queue_name text,
  p_task_id uuid,
  p_step_name text,
  p_include_pending boolean default false
) returns table (checkpoint_name text, state jsonb, status text, owner_run_id uuid, updated_at timestamptz)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute absurd_effect.bind(p_queue_name, $q$
    select c.checkpoint_name, c.state, c.status, c.owner_run_id, c.updated_at
    from absurd.%3$I c
    where c.task_id = $1 and c.checkpoint_name = $2 and ($3 or c.status = 'committed')
  $q$) using p_task_id, p_step_name, coalesce(p_include_pending, false);
end;
$$;

-- The committed checkpoints that a run may see: those of its own and of earlier attempts, in the order of writing.
create or replace function absurd.get_task_checkpoint_states(p_queue_name text, p_task_id uuid, p_run_id uuid)
returns table (checkpoint_name text, state jsonb, status text, owner_run_id uuid, updated_at timestamptz)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  v_run record;
begin
  select * into v_run from absurd_effect.states(p_queue_name, p_run_id);
  if v_run.run_state is null then
    raise exception 'Run "%" not found in queue "%"', p_run_id, p_queue_name;
  elsif v_run.task_id <> p_task_id then
    raise exception 'Run "%" does not belong to task "%"', p_run_id, p_task_id;
  end if;
  return query execute absurd_effect.bind(p_queue_name, $q$
    select c.checkpoint_name, c.state, c.status, c.owner_run_id, c.updated_at
    from absurd.%3$I c
    left join absurd.%2$I o on o.run_id = c.owner_run_id
    where c.task_id = $1 and c.status = 'committed' and (o.attempt is null or o.attempt <= $2)
    order by c.updated_at, c.ctid
  $q$) using p_task_id, v_run.attempt;
end;
$$;
