-- Waiting and emitting.
--
-- For one event name, looking at the event to go to sleep and emitting it exclude each other: who waits holds the event's
-- row FOR SHARE until it commits (a row without payload when nothing has been emitted), who emits updates that row first.

-- Locks the rows of events for as long as the transaction lasts, and makes those that are missing. Returns the payloads of
-- the emitted ones by name, and the names of those that it made.
create or replace function absurd_effect.hold_events(p_queue text, p_names text[], out payloads jsonb, out made text[])
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_held bigint;
  v_made text[];
begin
  made := '{}';
  loop
    execute absurd_effect.bind(p_queue, $q$
      with made as (
        insert into absurd.%4$I (event_name, payload, emitted_at)
        select distinct name, null::jsonb, timestamptz 'epoch' from unnest($1) name order by name
        on conflict (event_name) do nothing
        returning event_name
      )
      select array_agg(event_name) from made
    $q$) into v_made using p_names;
    made := made || v_made;
    execute absurd_effect.bind(p_queue, $q$
      select count(*), coalesce(jsonb_object_agg(event_name, payload) filter (where payload is not null), '{}')
      from (
        select e.event_name, e.payload from absurd.%4$I e where e.event_name = any ($1) order by e.event_name for share
      ) held
    $q$) into v_held, payloads using p_names;
    -- Cleaning may have removed a row between the two statements; then nothing would be held.
    exit when v_held = (select count(distinct name) from unnest(p_names) name);
  end loop;
end;
$$;

-- Removes rows that hold_events() has made in this transaction, so that nobody else has seen them, when nobody comes to wait.
create or replace function absurd_effect.unmake_events(p_queue text, p_made text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  if cardinality(p_made) > 0 then
    execute absurd_effect.bind(p_queue, 'delete from absurd.%4$I where event_name = any ($1) and payload is null')
      using p_made;
  end if;
end;
$$;

-- Looks at the waits of a run and puts it to sleep until the first of them is over, unless one already is.
--
-- `p_waits` is an array of {"step", "delay" seconds or "at" seconds since 1970} for timers and of {"step", "event",
-- "timeout" seconds or absent} for events, and for tasks as hold_awaited() says. Returns {"outcome", "suspended", "waits":
-- [{"_tag", "payload"?}]}, where a tag is Waiting, Due, Emitted, TimedOut or Ended. What is fixed once (wake times, deadlines, timeouts, payloads) is stored in the
-- checkpoints `step`, `$deadline:step` and `$timeout:step` in the same commit.
--
-- A worker in another language stores no deadline. When the timeout of its wait has woken the run, which `wake_event` of
-- the running run tells, the wait for that event is over here as well, once.
create or replace function absurd_effect.suspend(p_queue text, p_run uuid, p_token text, p_waits jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_events text[];
  v_payloads jsonb := '{}';
  v_made text[] := '{}';
  v_awaited jsonb;
  v_now timestamptz;
  v_task uuid;
  v_state text;
  v_task_state text;
  v_token text;
  v_wake_event text;
  v_known jsonb;
  v_wait jsonb;
  v_step text;
  v_until timestamptz;
  v_wake timestamptz := 'infinity';
  v_over boolean := false;
  v_told boolean := false;
  v_answers jsonb[] := '{}';
  v_writes jsonb := '{}';
  v_registered jsonb := '[]';
begin
  if jsonb_array_length(p_waits) = 0 then
    raise exception 'a run must wait for something' using errcode = '22023';
  end if;
  v_events := array(select w ->> 'event' from jsonb_array_elements(p_waits) w where w ? 'event');
  if cardinality(v_events) > 0 then
    perform absurd_effect.require_read_committed();
    select h.payloads, h.made into v_payloads, v_made from absurd_effect.hold_events(p_queue, v_events) h;
  end if;
  if jsonb_path_exists(p_waits, '$[*].tasks') then
    perform absurd_effect.require_read_committed();
    v_awaited := absurd_effect.hold_awaited(p_queue, p_waits);
  end if;
  execute absurd_effect.bind(p_queue, $q$
    select r.task_id, r.state, t.state, r.claimed_by, r.wake_event
    from absurd.%2$I r join absurd.%1$I t on t.task_id = r.task_id
    where r.run_id = $1
    for update of r, t
  $q$) into v_task, v_state, v_task_state, v_token, v_wake_event using p_run;
  if v_state is distinct from 'running' or v_token is distinct from p_token then
    perform absurd_effect.unmake_events(p_queue, v_made);
    return jsonb_build_object(
      'outcome', absurd_effect.refusal(v_state, v_task_state), 'suspended', false, 'waits', '[]'::jsonb
    );
  end if;
  execute absurd_effect.bind(p_queue, $q$
    select coalesce(jsonb_object_agg(c.checkpoint_name, coalesce(c.state, 'null')), '{}')
    from absurd.%3$I c
    where c.task_id = $1 and c.status = 'committed' and c.checkpoint_name = any (
      array(
        select prefix || (w ->> 'step')
        from jsonb_array_elements($2) w, unnest(array['', '$deadline:', '$timeout:']) prefix
      )
    )
  $q$) into v_known using v_task, p_waits;
  v_now := absurd.current_time();

  for v_wait in select w from jsonb_array_elements(p_waits) w loop
    v_step := v_wait ->> 'step';
    if v_wait ? 'tasks' then
      v_until := case
        when (v_awaited -> v_step ->> 'over')::boolean then '-infinity'
        else v_now + make_interval(secs => (v_awaited -> v_step ->> 'recheck')::double precision)
      end;
      v_answers := v_answers || jsonb_build_object('_tag', case when v_until <= v_now then 'Ended' else 'Waiting' end);
    elsif not v_wait ? 'event' then
      if not v_known ? v_step then
        v_writes := v_writes || jsonb_build_object(v_step, absurd_effect.iso(absurd_effect.instant(
          v_now, (v_wait ->> 'delay')::double precision, (v_wait ->> 'at')::double precision
        )));
        v_known := v_known || v_writes;
      end if;
      v_until := (v_known ->> v_step)::timestamptz;
      v_answers := v_answers || jsonb_build_object('_tag', case when v_until <= v_now then 'Due' else 'Waiting' end);
    elsif v_known ? ('$timeout:' || v_step) then
      v_until := '-infinity';
      v_answers := v_answers || jsonb_build_object('_tag', 'TimedOut');
    elsif v_known ? v_step then
      v_until := '-infinity';
      v_answers := v_answers || jsonb_build_object('_tag', 'Emitted', 'payload', v_known -> v_step);
    elsif v_payloads ? (v_wait ->> 'event') then
      v_until := '-infinity';
      v_answers := v_answers || jsonb_build_object('_tag', 'Emitted', 'payload', v_payloads -> (v_wait ->> 'event'));
      v_writes := v_writes || jsonb_build_object(v_step, v_payloads -> (v_wait ->> 'event'));
    else
      v_until := 'infinity';
      if v_wait ->> 'timeout' is not null then
        if not v_known ? ('$deadline:' || v_step) then
          v_writes := v_writes || jsonb_build_object('$deadline:' || v_step, absurd_effect.iso(
            case when v_wake_event = v_wait ->> 'event' then v_now
              else absurd_effect.instant(v_now, (v_wait ->> 'timeout')::double precision, null)
            end
          ));
          v_known := v_known || v_writes;
        end if;
        v_until := (v_known ->> ('$deadline:' || v_step))::timestamptz;
      end if;
      if v_until <= v_now then
        v_answers := v_answers || jsonb_build_object('_tag', 'TimedOut');
        v_writes := v_writes || jsonb_build_object('$timeout:' || v_step, true);
        v_told := v_told or coalesce(v_wake_event = v_wait ->> 'event', false);
      else
        v_answers := v_answers || jsonb_build_object('_tag', 'Waiting');
        v_registered := v_registered || jsonb_build_object(
          'step', v_step, 'event', v_wait ->> 'event', 'until', nullif(v_until, 'infinity')
        );
      end if;
    end if;
    v_over := v_over or v_until <= v_now;
    v_wake := least(v_wake, v_until);
  end loop;

  if v_writes <> '{}' then
    execute absurd_effect.bind(p_queue, $q$
      insert into absurd.%3$I as c (task_id, checkpoint_name, state, status, owner_run_id, updated_at)
      select $1, key, value, 'committed', $2, $3 from jsonb_each($4)
      on conflict (task_id, checkpoint_name) do update
        set state = excluded.state, status = excluded.status, owner_run_id = excluded.owner_run_id,
          updated_at = excluded.updated_at
        where c.status <> 'committed'
    $q$) using v_task, p_run, v_now, v_writes;
  end if;
  if v_told then
    -- The next wait for this event is another one.
    execute absurd_effect.bind(p_queue, 'update absurd.%2$I set wake_event = null where run_id = $1') using p_run;
  end if;
  if v_over then
    perform absurd_effect.unmake_events(p_queue, v_made);
  else
    execute absurd_effect.bind(p_queue, $q$
      with wait as (
        insert into absurd.%5$I (task_id, run_id, step_name, event_name, timeout_at, created_at)
        select $1, $2, x.step, x.event, x.until, $3
        from jsonb_to_recordset($4) x (step text, event text, until timestamptz)
        on conflict (run_id, step_name) do update
          set task_id = excluded.task_id, event_name = excluded.event_name, timeout_at = excluded.timeout_at,
            created_at = excluded.created_at
      ),
      run as (
        update absurd.%2$I
        set state = 'sleeping', claimed_by = null, claim_expires_at = null, available_at = $5, wake_event = $6,
          event_payload = null
        where run_id = $2
      )
      update absurd.%1$I set state = 'sleeping' where task_id = $1
    $q$) using v_task, p_run, v_now, v_registered, v_wake,
      case when jsonb_array_length(p_waits) = 1 then p_waits -> 0 ->> 'event' end;
    perform absurd_effect.leave_limits(p_queue, v_now, array[p_run]);
    if v_awaited is not null then
      perform absurd_effect.await_tasks(p_queue, v_task, p_run, p_waits, v_now);
    end if;
  end if;
  return jsonb_build_object('outcome', 'applied', 'suspended', not v_over, 'waits', to_jsonb(v_answers));
end;
$$;

-- Stores an event unless it has been emitted before, and makes every run pending that waits for it. Each of their waits
-- for it receives the payload as its checkpoint. Waits whose timeout has passed are removed; their runs are due anyway.
create or replace function absurd_effect.emit(p_queue text, p_event text, p_payload jsonb)
returns table (emitted boolean, woken integer)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_now timestamptz;
  v_won boolean;
  v_runs uuid[];
begin
  perform absurd_effect.require_read_committed();
  woken := 0;
  v_now := absurd.current_time();
  execute absurd_effect.bind(p_queue, $q$
    insert into absurd.%4$I as e (event_name, payload, emitted_at) values ($1, $2, $3)
    on conflict (event_name) do update set payload = excluded.payload, emitted_at = excluded.emitted_at
      where e.payload is null
    returning true
  $q$) into v_won using p_event, coalesce(p_payload, 'null'), v_now;
  emitted := coalesce(v_won, false);
  if emitted then
    execute absurd_effect.bind(p_queue, $q$
      select array_agg(run_id) filter (where state = 'sleeping') from (
        select r.run_id, r.state
        from absurd.%2$I r
        join absurd.%1$I t on t.task_id = r.task_id
        where r.run_id in (select w.run_id from absurd.%5$I w where w.event_name = $1)
        order by greatest(r.run_id, r.run_id)
        for update of r, t
      ) held
    $q$) into v_runs using p_event;
    if v_runs is not null then
      -- A new statement: the waits as they are now that nobody can change these runs.
      execute absurd_effect.bind(p_queue, $q$
        with wait as materialized (
          select w.run_id, w.task_id, w.step_name, w.timeout_at is null or w.timeout_at > $4 as live
          from absurd.%5$I w
          where w.event_name = $1 and w.run_id = any ($3)
        ),
        live as materialized (select distinct run_id, task_id from wait where live),
        checkpoint as (
          insert into absurd.%3$I as c (task_id, checkpoint_name, state, status, owner_run_id, updated_at)
          select distinct on (task_id, step_name) task_id, step_name, $2, 'committed', run_id, $4 from wait where live
          order by task_id, step_name
          on conflict (task_id, checkpoint_name) do update
            set state = excluded.state, status = excluded.status, owner_run_id = excluded.owner_run_id,
              updated_at = excluded.updated_at
            where c.status <> 'committed' or c.state is null
        ),
        gone as (
          delete from absurd.%5$I w using live where w.run_id = live.run_id
        ),
        expired as (
          delete from absurd.%5$I w using wait
          where w.run_id = wait.run_id and w.step_name = wait.step_name and not wait.live
            and wait.run_id not in (select run_id from live)
        ),
        run as (
          update absurd.%2$I r
          set state = 'pending', available_at = $4, wake_event = null, event_payload = $2, claimed_by = null,
            claim_expires_at = null
          from live
          where r.run_id = live.run_id
          returning r.task_id
        ),
        task as (
          update absurd.%1$I t set state = 'pending' from run where t.task_id = run.task_id
        )
        select count(*) from run
      $q$) into woken using p_event, coalesce(p_payload, 'null'), v_runs, v_now;
      if woken > 0 then
        perform absurd_effect.hint_work(p_queue);
      end if;
    end if;
  end if;
  return next;
end;
$$;
