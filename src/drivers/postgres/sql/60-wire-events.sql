-- The wire door to events.

-- Refuses an isolation level at which an emit and a wait could miss each other: whoever waits must see what has been
-- committed until then, and not only what had been when its transaction began.
create or replace function absurd.refuse_isolation(p_function text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception '% needs a transaction that is READ COMMITTED, and this one is %',
      p_function, upper(current_setting('transaction_isolation'));
  end if;
end;
$$;

-- Emits an event, once per name: a later call changes nothing. Wakes every run that waits for it.
create or replace function absurd.emit_event(p_queue_name text, p_event_name text, p_payload jsonb default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_event_name is null or btrim(p_event_name) = '' then
    raise exception 'event_name must be provided';
  end if;
  perform absurd.refuse_isolation('emit_event');
  perform absurd_effect.emit(p_queue_name, p_event_name, p_payload);
end;
$$;

-- Receives an event, or puts the run to sleep until it is emitted or `p_timeout` seconds have passed.
--
-- (false, payload): it has been emitted. (false, null): the run was woken by the timeout of a wait for this event, which
-- is told once. (true, null): the run sleeps now.
create or replace function absurd.await_event(
  p_queue_name text,
  p_task_id uuid,
  p_run_id uuid,
  p_step_name text,
  p_event_name text,
  p_timeout integer default null
) returns table (should_suspend boolean, payload jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  v_events jsonb;
  v_made text[];
  v_run record;
  v_now timestamptz;
  v_until timestamptz;
begin
  if p_event_name is null or btrim(p_event_name) = '' then
    raise exception 'event_name must be provided';
  end if;
  if p_timeout < 0 then
    raise exception 'timeout must be non-negative';
  end if;
  should_suspend := false;
  execute absurd_effect.bind(p_queue_name, $q$
    select c.state from absurd.%3$I c where c.task_id = $1 and c.checkpoint_name = $2 and c.status = 'committed'
  $q$) into payload using p_task_id, p_step_name;
  if payload is not null then
    return next;
    return;
  end if;

  perform absurd.refuse_isolation('await_event');
  select h.payloads, h.made into v_events, v_made from absurd_effect.hold_events(p_queue_name, array[p_event_name]) h;
  execute absurd_effect.bind(p_queue_name, $q$
    select r.task_id, r.state, t.state as task_state, r.wake_event
    from absurd.%2$I r join absurd.%1$I t on t.task_id = r.task_id
    where r.run_id = $1
    for update of r, t
  $q$) into v_run using p_run_id;
  if v_run.state is null then
    raise exception 'Run "%" not found while awaiting event', p_run_id;
  elsif v_run.task_state = 'cancelled' then
    perform absurd_effect.refuse(p_queue_name, p_run_id, 'cancelled', '');
  elsif v_run.state <> 'running' then
    raise exception 'Run "%" must be running to await events', p_run_id;
  elsif v_run.task_id <> p_task_id then
    raise exception 'Run "%" does not belong to task "%"', p_run_id, p_task_id;
  end if;

  v_now := absurd.current_time();
  if v_events ? p_event_name then
    payload := v_events -> p_event_name;
    execute absurd_effect.bind(p_queue_name, $q$
      insert into absurd.%3$I as c (task_id, checkpoint_name, state, status, owner_run_id, updated_at)
      values ($1, $2, $3, 'committed', $4, $5)
      on conflict (task_id, checkpoint_name) do update
        set state = excluded.state, status = excluded.status, owner_run_id = excluded.owner_run_id,
          updated_at = excluded.updated_at
    $q$) using p_task_id, p_step_name, payload, p_run_id, v_now;
  elsif v_run.wake_event = p_event_name then
    perform absurd_effect.unmake_events(p_queue_name, v_made);
    execute absurd_effect.bind(p_queue_name, 'update absurd.%2$I set wake_event = null where run_id = $1')
      using p_run_id;
  else
    should_suspend := true;
    v_until := v_now + make_interval(secs => p_timeout);
    execute absurd_effect.bind(p_queue_name, $q$
      insert into absurd.%5$I (task_id, run_id, step_name, event_name, timeout_at, created_at)
      values ($1, $2, $3, $4, $5, $6)
      on conflict (run_id, step_name) do update
        set task_id = excluded.task_id, event_name = excluded.event_name, timeout_at = excluded.timeout_at,
          created_at = excluded.created_at
    $q$) using p_task_id, p_run_id, p_step_name, p_event_name, v_until, v_now;
    execute absurd_effect.bind(p_queue_name, $q$
      with run as (
        update absurd.%2$I
        set state = 'sleeping', claimed_by = null, claim_expires_at = null, available_at = coalesce($3, 'infinity'),
          wake_event = $4, event_payload = null
        where run_id = $2
      )
      update absurd.%1$I set state = 'sleeping' where task_id = $1
    $q$) using p_task_id, p_run_id, v_until, p_event_name;
  end if;
  return next;
end;
$$;
