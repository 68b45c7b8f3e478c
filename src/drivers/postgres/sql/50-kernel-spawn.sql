-- Spawning.

-- Whether a spawn of tasks of so many bytes should be a statement that is planned once. It only inserts, so one plan is right for
-- any number and any table, and to make it takes as long as to spawn a few. But what was prepared takes literals, and those of
-- much are dearer than a plan.
create or replace function absurd_effect.is_small_spawn(p_bytes integer) returns boolean
language sql immutable
as $$
  select p_bytes <= 4096
$$;

-- Inserts the tasks at the places `p_places` of the array `p_tasks` (all when null) with their first runs, and returns
-- those that were inserted. `p_arbiter` says what decides about idempotency keys: `none` (there are no keys), `task` (the
-- unique column of the tasks) or `key` (the table of keys of a partitioned queue). A task whose key is taken is left out.
create or replace function absurd_effect.insert_tasks(
  p_queue text,
  p_tasks jsonb,
  p_places bigint[],
  p_now timestamptz,
  p_arbiter text
) returns table (ord bigint, task_id uuid, run_id uuid)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
set datestyle = 'ISO'
as $$
declare
  v_sql constant text := $q$
    with item as materialized (
      select i.ord, i.e, i.e ->> 'idempotency_key' as key, absurd.portable_uuidv7() as task_id,
        absurd.portable_uuidv7() as run_id,
        case when i.e ? 'delay' or i.e ? 'at' then greatest($3, absurd_effect.instant(
          $3, (i.e ->> 'delay')::double precision, (i.e ->> 'at')::double precision
        )) else $3 end as due_at
      from jsonb_array_elements($1) with ordinality i (e, ord)
      where $2 is null or i.ord = any ($2)
    ),
    $q$ || case when p_arbiter <> 'key' then '' else $q$
    claimed as (
      insert into absurd.%6$I (idempotency_key, task_id)
      select key, task_id from item where key is not null order by key, ord
      on conflict (idempotency_key) do nothing
      returning task_id
    ),
    $q$ end || $q$
    task as (
      insert into absurd.%1$I (task_id, task_name, params, headers, retry_strategy, max_attempts, cancellation,
        enqueue_at, state, attempts, last_attempt_run, idempotency_key)
      select item.task_id, item.e ->> 'name', coalesce(item.e -> 'params', 'null'), nullif(item.e -> 'headers', 'null'),
        nullif(item.e -> 'retry_strategy', 'null'), (item.e ->> 'max_attempts')::integer,
        nullif(item.e -> 'cancellation', 'null'), item.due_at,
        case when item.due_at > $3 then 'sleeping' else 'pending' end, 1, item.run_id, item.key
      from item
      $q$ || case p_arbiter
        when 'none' then ''
        -- The predicate fits a partial index as well as one over all rows, which other installations may have.
        when 'task' then
          'order by item.key, item.ord on conflict (idempotency_key) where idempotency_key is not null do nothing'
        else 'where item.key is null or item.task_id in (select claimed.task_id from claimed)'
      end || $q$
      returning task_id, last_attempt_run as run_id, state, enqueue_at
    ),
    run as (
      insert into absurd.%2$I (run_id, task_id, attempt, state, available_at, created_at)
      select run_id, task_id, 1, state, enqueue_at, $3 from task
    )
    select item.ord, task.task_id, task.run_id from task join item on item.task_id = task.task_id
  $q$;
begin
  if absurd_effect.is_small_spawn(pg_column_size(p_tasks)) then
    return query execute 'execute ' || absurd_effect.prepared(p_queue, '(jsonb, bigint[], timestamptz)', v_sql)
      || format('(%L, %L, %L)', p_tasks, p_places, p_now);
  else
    return query execute absurd_effect.bind(p_queue, v_sql) using p_tasks, p_places, p_now;
  end if;
  if found then
    perform absurd_effect.hint_work(p_queue);
  end if;
end;
$$;

-- Spawns a task for each of the array `p_params`, which has these params; everything else of all of them is `p_task`, a task of
-- `absurd_effect.spawn` without params and without a key. Returns a row for each, in their order. What is the same for all is
-- looked at once, so many of these take the server two thirds of the time, and few of them a half.
create or replace function absurd_effect.spawn_alike(p_queue text, p_task jsonb, p_params jsonb)
returns table (task_id uuid, run_id uuid)
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_generic_plan
set datestyle = 'ISO'
as $$
declare
  c_types constant text := '(jsonb, text, jsonb, jsonb, integer, jsonb, timestamptz, text, timestamptz)';
  c_sql constant text := $q$
    with item as materialized (
      select i.ord, i.e as params, absurd.portable_uuidv7() as task_id, absurd.portable_uuidv7() as run_id
      from jsonb_array_elements($1) with ordinality i (e, ord)
    ),
    task as (
      insert into absurd.%1$I (task_id, task_name, params, headers, retry_strategy, max_attempts, cancellation,
        enqueue_at, state, attempts, last_attempt_run)
      select item.task_id, $2, item.params, $3, $4, $5, $6, $7, $8, 1, item.run_id from item
    ),
    run as (
      insert into absurd.%2$I (run_id, task_id, attempt, state, available_at, created_at)
      select item.run_id, item.task_id, 1, $8, $7, $9 from item
    )
    select item.task_id, item.run_id from item order by item.ord
  $q$;
  v_now constant timestamptz := absurd.current_time();
  v_due constant timestamptz := case when p_task ? 'delay' or p_task ? 'at' then greatest(v_now, absurd_effect.instant(
    v_now, (p_task ->> 'delay')::double precision, (p_task ->> 'at')::double precision
  )) else v_now end;
  v_state constant text := case when v_due > v_now then 'sleeping' else 'pending' end;
begin
  if absurd_effect.is_small_spawn(pg_column_size(p_params) + pg_column_size(p_task)) then
    return query execute 'execute ' || absurd_effect.prepared(p_queue, c_types, c_sql) || format(
      '(%L, %L, %L, %L, %L, %L, %L, %L, %L)', p_params, p_task ->> 'name', nullif(p_task -> 'headers', 'null'),
      nullif(p_task -> 'retry_strategy', 'null'), p_task ->> 'max_attempts', nullif(p_task -> 'cancellation', 'null'), v_due,
      v_state, v_now
    );
  else
    return query execute absurd_effect.bind(p_queue, c_sql) using p_params, p_task ->> 'name',
      nullif(p_task -> 'headers', 'null'), nullif(p_task -> 'retry_strategy', 'null'), (p_task ->> 'max_attempts')::integer,
      nullif(p_task -> 'cancellation', 'null'), v_due, v_state, v_now;
  end if;
  if found then
    perform absurd_effect.hint_work(p_queue);
    if jsonb_typeof(p_task -> 'headers') = 'object' and p_task -> 'headers' ? '$limit' then
      perform absurd_effect.declare_limits(p_queue, jsonb_build_array(p_task), array[1]::bigint[]);
    end if;
  end if;
end;
$$;

-- Spawns tasks that have idempotency keys. Tells of each its place, its task, its newest run, the number of that and whether
-- the task was made, in arrays of one length; or, when `p_strict` and a key belongs to a task with another name or other
-- params, an object {"key", "task", "differs"}, and then nothing has been written.
create or replace function absurd_effect.spawn_by_key(
  p_queue text,
  p_tasks jsonb,
  p_strict boolean,
  out ords bigint[],
  out tasks uuid[],
  out runs uuid[],
  out attempts integer[],
  out created boolean[],
  out conflict jsonb
)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := absurd.current_time();
  v_arbiter text;
  v_count constant integer := jsonb_array_length(p_tasks);
  -- All of them, at first.
  v_places bigint[];
  v_ords bigint[];
  v_tasks uuid[];
  v_runs uuid[];
  v_attempts integer[];
  v_conflict jsonb;
  v_limited constant boolean := jsonb_path_exists(p_tasks, '$[*].headers."$limit"');
begin
  select case q.storage_mode when 'partitioned' then 'key' else 'task' end into v_arbiter
  from absurd.queues q where q.queue_name = p_queue;
  for i in 1 .. 100 loop
    select array_agg(n.ord), array_agg(n.task_id), array_agg(n.run_id) into v_ords, v_tasks, v_runs
    from absurd_effect.insert_tasks(p_queue, p_tasks, v_places, v_now, coalesce(v_arbiter, 'task')) n;
    if v_ords is not null then
      if v_limited then
        perform absurd_effect.declare_limits(p_queue, p_tasks, v_ords);
      end if;
      ords := ords || v_ords;
      tasks := tasks || v_tasks;
      runs := runs || v_runs;
      attempts := attempts || array_fill(1, array[cardinality(v_ords)]);
      created := created || array_fill(true, array[cardinality(v_ords)]);
    end if;
    if cardinality(ords) = v_count then
      return;
    end if;
    v_places := array(select generate_series(1, v_count)::bigint except select unnest(ords));
    -- The owners of the keys. One that has been cleaned away in between is not found, and its key is free again.
    execute absurd_effect.bind(p_queue, $q$
      select array_agg(i.ord), array_agg(t.task_id), array_agg(t.last_attempt_run), array_agg(t.attempts),
        (array_agg(jsonb_build_object('key', i.e ->> 'idempotency_key', 'task', t.task_id, 'differs',
          case when t.task_name <> i.e ->> 'name' then 'name' else 'params' end) order by i.ord)
          filter (where t.task_name <> i.e ->> 'name' or t.params <> coalesce(i.e -> 'params', 'null')))[1]
      from jsonb_array_elements($1) with ordinality i (e, ord)
      $q$ || case when v_arbiter = 'key' then $q$
      join absurd.%6$I k on k.idempotency_key = i.e ->> 'idempotency_key'
      join absurd.%1$I t on t.task_id = k.task_id
      $q$ else $q$
      join absurd.%1$I t on t.idempotency_key = i.e ->> 'idempotency_key'
      $q$ end || $q$
      where i.ord = any ($2)
    $q$) into v_ords, v_tasks, v_runs, v_attempts, v_conflict using p_tasks, v_places;
    if p_strict and v_conflict is not null then
      raise exception 'an idempotency key belongs to another task' using errcode = 'AE001';
    end if;
    if v_ords is not null then
      ords := ords || v_ords;
      tasks := tasks || v_tasks;
      runs := runs || v_runs;
      attempts := attempts || v_attempts;
      created := created || array_fill(false, array[cardinality(v_ords)]);
    end if;
    if cardinality(ords) = v_count then
      return;
    end if;
    v_places := array(select unnest(v_places) except select unnest(v_ords));
  end loop;
  raise exception 'the owner of an idempotency key in queue "%" keeps vanishing', p_queue
    using errcode = '40001', hint = 'Try again.';
exception when sqlstate 'AE001' then
  conflict := v_conflict;
end;
$$;

-- Spawns all tasks of an array, or none of them. A task is {"name", "params", "headers", "retry_strategy",
-- "max_attempts", "cancellation", "idempotency_key", "delay" seconds or "at" seconds since 1970}; all but the name may be
-- absent. A delayed task is sleeping until it is due. Returns a row for each, by `ord`; a task whose key is taken is not
-- spawned but found. When `p_strict` and a found one has another name or other params, nothing is spawned and the one row
-- says in `conflict` what differs, of which task and key.
create or replace function absurd_effect.spawn(p_queue text, p_tasks jsonb, p_strict boolean) returns table (
  ord bigint,
  task_id uuid,
  run_id uuid,
  attempt integer,
  created boolean,
  conflict jsonb
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_answer record;
begin
  if not jsonb_path_exists(p_tasks, '$[*].idempotency_key ? (@ != null)') then
    return query select n.ord, n.task_id, n.run_id, 1, true, null::jsonb
      from absurd_effect.insert_tasks(p_queue, p_tasks, null, absurd.current_time(), 'none') n;
    if jsonb_path_exists(p_tasks, '$[*].headers."$limit"') then
      perform absurd_effect.declare_limits(
        p_queue, p_tasks, array(select generate_series(1, jsonb_array_length(p_tasks)))
      );
    end if;
    return;
  end if;
  if p_strict then
    perform absurd_effect.require_read_committed();
  end if;
  select * into v_answer from absurd_effect.spawn_by_key(p_queue, p_tasks, p_strict);
  if v_answer.conflict is not null then
    return query select 1::bigint, (v_answer.conflict ->> 'task')::uuid, null::uuid, 0, false, v_answer.conflict;
  else
    return query select x.ord, x.task, x.run, x.attempt, x.made, null::jsonb
      from unnest(v_answer.ords, v_answer.tasks, v_answer.runs, v_answer.attempts, v_answer.created)
        x (ord, task, run, attempt, made);
  end if;
end;
$$;
