-- Tasks that have not been started.

-- Gives the task that has the key the params, headers, retry strategy, number of attempts and cancellation policy of
-- `p_task`, an item of spawn(), if it has the item's name and no run of it was ever claimed. Unless `p_keep_due`, it becomes
-- due by the item's delay. Returns the task and its run, or nothing when there is no such task.
create or replace function absurd_effect.revise_pending(p_queue text, p_key text, p_task jsonb, p_keep_due boolean)
returns table (task_id uuid, run_id uuid)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $$
declare
  v_now constant timestamptz := absurd.current_time();
  v_due timestamptz;
  v_task uuid;
  v_run uuid;
begin
  execute absurd_effect.bind(p_queue, $q$
    select t.task_id, r.run_id, r.available_at
    from absurd.%2$I r
    join absurd.%1$I t on t.task_id = r.task_id
    where t.$q$ || case (select q.storage_mode from absurd.queues q where q.queue_name = p_queue)
      when 'partitioned' then 'task_id = (select k.task_id from absurd.%6$I k where k.idempotency_key = $1)'
      else 'idempotency_key = $1'
    end || $q$
      and t.task_name = $2
      and t.first_started_at is null
      and t.state in ('pending', 'sleeping')
      and r.state in ('pending', 'sleeping')
    for update of r, t
  $q$) into v_task, v_run, v_due using p_key, p_task ->> 'name';
  if v_task is null then
    return;
  end if;
  if p_keep_due then
    -- A parked run does not tell.
    v_due := coalesce((
      select x.due from absurd_effect.limited_runs x where x.queue_name = p_queue and x.run_id = v_run
    ), v_due);
  else
    v_due := case when p_task ? 'delay' or p_task ? 'at' then greatest(v_now, absurd_effect.instant(
      v_now, (p_task ->> 'delay')::double precision, (p_task ->> 'at')::double precision
    )) else v_now end;
  end if;
  execute absurd_effect.bind(p_queue, $q$
    update absurd.%1$I
    set params = coalesce($2 -> 'params', 'null'),
      headers = nullif($2 -> 'headers', 'null'),
      retry_strategy = nullif($2 -> 'retry_strategy', 'null'),
      max_attempts = ($2 ->> 'max_attempts')::integer,
      cancellation = nullif($2 -> 'cancellation', 'null'),
      enqueue_at = $3,
      state = case when $3 > $4 then 'sleeping' else 'pending' end
    where task_id = $1
  $q$) using v_task, p_task, v_due, v_now;
  execute absurd_effect.bind(p_queue, $q$
    update absurd.%2$I set available_at = $2, state = case when $2 > $3 then 'sleeping' else 'pending' end
    where run_id = $1
  $q$) using v_run, v_due, v_now;
  if jsonb_typeof(p_task -> 'headers') = 'object' and p_task -> 'headers' ? '$limit' then
    perform absurd_effect.declare_limits(p_queue, jsonb_build_array(p_task), array[1]::bigint[]);
  end if;
  perform absurd_effect.leave_limits(p_queue, v_now, array[v_run]);
  if v_due <= v_now then
    perform absurd_effect.hint_work(p_queue);
  end if;
  return query select v_task, v_run;
end;
$$;
