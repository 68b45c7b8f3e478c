-- Cancelling and reviving tasks.

-- Cancels tasks that the caller has locked, together with their runs that have not ended.
create or replace function absurd_effect.cancel_held(p_queue text, p_now timestamptz, p_tasks uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_runs uuid[];
begin
  execute absurd_effect.bind(p_queue, $q$
    with run as (
      update absurd.%2$I
      set state = 'cancelled', claimed_by = null, claim_expires_at = null
      where task_id = any ($1) and state in ('pending', 'running', 'sleeping')
      returning run_id
    ),
    gone as (
      delete from absurd.%5$I where task_id = any ($1)
    ),
    task as (
      update absurd.%1$I set state = 'cancelled', cancelled_at = $2 where task_id = any ($1)
    )
    select array_agg(run_id) from run
  $q$) into v_runs using p_tasks, p_now;
  perform absurd_effect.leave_limits(p_queue, p_now, v_runs);
  perform absurd_effect.hint_ended(p_queue, p_tasks, true);
end;
$$;

-- Cancels a task that has not ended. Returns its state before, null when there is no such task.
create or replace function absurd_effect.cancel(p_queue text, p_task uuid) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_runs uuid[];
  v_state text;
  v_missed boolean;
begin
  loop
    begin
      execute absurd_effect.bind(p_queue, $q$
        select array(
          select run_id from absurd.%2$I
          where task_id = $1 and state in ('pending', 'running', 'sleeping')
          order by greatest(run_id, run_id) for update
        )
      $q$) into v_runs using p_task;
      execute absurd_effect.bind(p_queue, 'select state from absurd.%1$I where task_id = $1 for update')
        into v_state using p_task;
      if v_state is null or v_state in ('completed', 'failed', 'cancelled') then
        return v_state;
      end if;
      execute absurd_effect.bind(p_queue, $q$
        select exists (
          select from absurd.%2$I
          where task_id = $1 and state in ('pending', 'running', 'sleeping') and run_id <> all ($2)
        )
      $q$) into v_missed using p_task, v_runs;
      if not v_missed then
        perform absurd_effect.cancel_held(p_queue, absurd.current_time(), array[p_task]);
        return v_state;
      end if;
      -- The next attempt was made while this waited for the one before. Runs are locked before their task: start again.
      raise exception 'missed a run' using errcode = 'AE003';
    exception when sqlstate 'AE003' then
      continue;
    end;
  end loop;
end;
$$;

-- Cancels the task of a run that is pending or sleeping. Returns the run's state before, null when there is no such run.
create or replace function absurd_effect.cancel_run(p_queue text, p_run uuid) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_task uuid;
  v_state text;
begin
  execute absurd_effect.bind(p_queue, $q$
    select r.task_id, r.state
    from absurd.%2$I r join absurd.%1$I t on t.task_id = r.task_id
    where r.run_id = $1
    for update of r, t
  $q$) into v_task, v_state using p_run;
  if v_state in ('pending', 'sleeping') then
    perform absurd_effect.cancel_held(p_queue, absurd.current_time(), array[v_task]);
  end if;
  return v_state;
end;
$$;

-- Revives a failed task: in place, with one more attempt or up to `p_max_attempts`, or as a new task.
--
-- `outcome` is `applied`, `notFound`, `notFailed` (`state` says what it is) or `tooFew` (`p_max_attempts`, returned as
-- `allowed`, leaves no attempt after the `attempts` made). Only `applied` changed something.
create or replace function absurd_effect.retry(
  p_queue text,
  p_task uuid,
  p_max_attempts integer,
  p_spawn_new boolean
) returns table (
  outcome text,
  task_id uuid,
  run_id uuid,
  attempt integer,
  created boolean,
  state text,
  allowed integer,
  attempts integer
)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz;
  v_max integer;
begin
  execute absurd_effect.bind(p_queue, $q$
    select state, max_attempts, attempts from absurd.%1$I where task_id = $1 for update
  $q$) into state, v_max, attempts using p_task;
  v_now := absurd.current_time();
  task_id := p_task;
  created := p_spawn_new;
  if state is distinct from 'failed' then
    outcome := case when state is null then 'notFound' else 'notFailed' end;
  elsif p_spawn_new then
    outcome := 'applied';
    task_id := absurd.portable_uuidv7();
    run_id := absurd.portable_uuidv7();
    attempt := 1;
    execute absurd_effect.bind(p_queue, $q$
      with task as (
        insert into absurd.%1$I (task_id, task_name, params, headers, retry_strategy, max_attempts, cancellation,
          enqueue_at, state, attempts, last_attempt_run)
        select $2, task_name, params, headers, retry_strategy, coalesce($4, max_attempts), cancellation, $5, 'pending', 1,
          $3
        from absurd.%1$I where task_id = $1
      )
      insert into absurd.%2$I (run_id, task_id, attempt, state, available_at, created_at)
      values ($3, $2, 1, 'pending', $5, $5)
    $q$) using p_task, task_id, run_id, p_max_attempts, v_now;
  else
    allowed := coalesce(p_max_attempts, coalesce(v_max, attempts) + 1);
    outcome := case when allowed > attempts then 'applied' else 'tooFew' end;
    if outcome = 'applied' then
      run_id := absurd.portable_uuidv7();
      attempt := attempts + 1;
      execute absurd_effect.bind(p_queue, $q$
        with task as (
          update absurd.%1$I
          set state = 'pending', attempts = $3, max_attempts = $4, last_attempt_run = $2, cancelled_at = null
          where task_id = $1
        )
        insert into absurd.%2$I (run_id, task_id, attempt, state, available_at, created_at)
        values ($2, $1, $3, 'pending', $5, $5)
      $q$) using p_task, run_id, attempt, allowed, v_now;
    end if;
  end if;
  if outcome = 'applied' then
    perform absurd_effect.hint_work(p_queue);
  end if;
  return next;
end;
$$;
