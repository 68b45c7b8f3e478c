-- Reading. Rows come as JSON objects with the names of the driver's contract; instants are milliseconds since 1970.

-- Everything stored of a task.
create or replace function absurd_effect.read_task(p_queue text, p_task uuid) returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    select jsonb_build_object(
      'taskId', task_id, 'name', task_name, 'params', params, 'headers', headers, 'retryStrategy', retry_strategy,
      'maxAttempts', max_attempts, 'cancellation', cancellation, 'enqueueAt', absurd_effect.millis(enqueue_at),
      'firstStartedAt', absurd_effect.millis(first_started_at), 'state', state, 'attempts', attempts,
      'lastAttemptRun', last_attempt_run, 'completedPayload', completed_payload,
      'cancelledAt', absurd_effect.millis(cancelled_at), 'idempotencyKey', idempotency_key
    )
    from absurd.%1$I where task_id = $1
  $q$) using p_task;
end;
$$;

-- Everything stored of one run, or of all runs of a task by attempt. Exactly one of the two ids is given.
create or replace function absurd_effect.read_runs(p_queue text, p_run uuid, p_task uuid) returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    select jsonb_build_object(
      'runId', run_id, 'taskId', task_id, 'attempt', attempt, 'state', state, 'claimedBy', claimed_by,
      'claimExpiresAt', absurd_effect.millis(claim_expires_at), 'availableAt', absurd_effect.millis(available_at),
      'wakeEvent', wake_event, 'eventPayload', event_payload, 'startedAt', absurd_effect.millis(started_at),
      'completedAt', absurd_effect.millis(completed_at), 'failedAt', absurd_effect.millis(failed_at), 'result', result,
      'failureReason', failure_reason, 'createdAt', absurd_effect.millis(created_at)
    )
    from absurd.%2$I where $q$ || case when p_run is not null then 'run_id = $1' else 'task_id = $2' end || $q$
    order by attempt
  $q$) using p_run, p_task;
end;
$$;

-- The registered waits of a task, by step.
create or replace function absurd_effect.read_waits(p_queue text, p_task uuid) returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    select jsonb_build_object(
      'taskId', task_id, 'runId', run_id, 'step', step_name, 'event', event_name,
      'timeoutAt', absurd_effect.millis(timeout_at), 'createdAt', absurd_effect.millis(created_at)
    )
    from absurd.%5$I where task_id = $1 order by step_name
  $q$) using p_task;
end;
$$;

-- The checkpoints of a task in the order of writing, all or the one of a name.
create or replace function absurd_effect.read_checkpoints(
  p_queue text,
  p_task uuid,
  p_name text,
  p_include_pending boolean
) returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    select jsonb_build_object(
      'taskId', task_id, 'name', checkpoint_name, 'state', state, 'status', status, 'ownerRunId', owner_run_id,
      'updatedAt', absurd_effect.millis(updated_at)
    )
    from absurd.%3$I c
    where task_id = $1 and ($2 is null or checkpoint_name = $2) and ($3 or status = 'committed')
    order by updated_at, c.ctid
  $q$) using p_task, p_name, p_include_pending;
end;
$$;

-- An emitted event.
create or replace function absurd_effect.read_event(p_queue text, p_event text) returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    select jsonb_build_object('name', event_name, 'payload', payload, 'emittedAt', absurd_effect.millis(emitted_at))
    from absurd.%4$I where event_name = $1 and payload is not null
  $q$) using p_event;
end;
$$;

-- Those of many events that have been emitted.
create or replace function absurd_effect.read_events(p_queue text, p_events text[]) returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    select jsonb_build_object('name', event_name, 'payload', payload, 'emittedAt', absurd_effect.millis(emitted_at))
    from absurd.%4$I where event_name = any ($1) and payload is not null
  $q$) using p_events;
end;
$$;

-- The task that has an idempotency key.
create or replace function absurd_effect.find_task(p_queue text, p_key text) returns setof uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
  if (select q.storage_mode = 'partitioned' from absurd.queues q where q.queue_name = p_queue) then
    return query execute absurd_effect.bind(p_queue, 'select task_id from absurd.%6$I where idempotency_key = $1')
      using p_key;
  else
    return query execute absurd_effect.bind(p_queue, 'select task_id from absurd.%1$I where idempotency_key = $1')
      using p_key;
  end if;
end;
$$;

-- State, result (of completed ones) and reason of the last failure (of failed ones) of those of the tasks that exist.
create or replace function absurd_effect.results(p_queue text, p_tasks uuid[])
returns table (task_id uuid, state text, result jsonb, failure_reason jsonb)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    select t.task_id, t.state, case when t.state = 'completed' then t.completed_payload end,
      case when t.state = 'failed' then r.failure_reason end
    from absurd.%1$I t
    left join absurd.%2$I r on r.run_id = t.last_attempt_run
    where t.task_id = any ($1)
  $q$) using p_tasks;
end;
$$;

-- The states of a run and of its task, for those who have to say why something was refused.
create or replace function absurd_effect.states(p_queue text, p_run uuid)
returns table (run_state text, task_state text, task_id uuid, claim_expires_at timestamptz, attempt integer)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    select r.state, t.state, r.task_id, r.claim_expires_at, r.attempt
    from absurd.%2$I r left join absurd.%1$I t on t.task_id = r.task_id
    where r.run_id = $1
  $q$) using p_run;
end;
$$;
