-- Queues: their list, their tables, and how they come and go.

create table if not exists absurd.queues (
  queue_name text primary key,
  created_at timestamptz not null default absurd.current_time(),
  storage_mode text not null default 'unpartitioned'
    check (storage_mode in ('unpartitioned', 'partitioned')),
  default_partition text not null default 'enabled'
    check (default_partition in ('enabled', 'disabled')),
  partition_lookahead interval not null default interval '28 days'
    check (partition_lookahead >= interval '0'),
  partition_lookback interval not null default interval '1 day'
    check (partition_lookback >= interval '0'),
  cleanup_ttl interval not null default interval '30 days'
    check (cleanup_ttl >= interval '0'),
  cleanup_limit integer not null default 1000
    check (cleanup_limit >= 1),
  detach_mode text not null default 'none'
    check (detach_mode in ('none', 'empty')),
  detach_min_age interval not null default interval '30 days'
    check (detach_min_age >= interval '0')
);

-- Returns the name of a queue to be created, or refuses it. The longest names made of it, r_<name>_sai and r_<name>_646,
-- then have 63 bytes, the most that PostgreSQL keeps.
create or replace function absurd.validate_queue_name(p_queue_name text)
returns text
language plpgsql
as $fn$
begin
  if p_queue_name is null or p_queue_name = '' then
    raise exception 'Queue name must be provided';
  end if;
  if octet_length(p_queue_name) > 57 then
    raise exception 'Queue name "%" is too long (max 57 bytes).', p_queue_name;
  end if;
  return p_queue_name;
end
$fn$;

-- The storage settings of a table of rows that are updated a few times and then only kept: room for updates within the
-- page, and vacuum and analyze long before a fifth or a tenth of a large table has changed.
create or replace function absurd.hot_storage()
returns text
language sql
immutable
as $fn$
  select 'with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,'
    || ' autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 1000)'
$fn$;

-- Creates what is missing of the tables and indexes of a queue.
create or replace function absurd.ensure_queue_tables(p_queue_name text)
returns void
language plpgsql
as $fn$
declare
  v_partitioned boolean;
  v_by_task text := '';
  v_by_run text := '';
  v_hot text;
  v_states constant text := $states$('pending', 'running', 'sleeping', 'completed', 'failed', 'cancelled')$states$;
begin
  select q.storage_mode = 'partitioned' into strict v_partitioned
  from absurd.queues as q
  where q.queue_name = p_queue_name;

  -- Only tables that hold rows take storage settings; those of a partitioned table go to its partitions.
  if v_partitioned then
    v_by_task := 'partition by range (task_id)';
    v_by_run := 'partition by range (run_id)';
    v_hot := '';
  else
    v_hot := absurd.hot_storage();
  end if;

  execute format(
    $ddl$
      create table if not exists absurd.%1$I (
        task_id uuid not null primary key,
        task_name text not null,
        params jsonb not null,
        headers jsonb,
        retry_strategy jsonb,
        max_attempts integer,
        cancellation jsonb,
        enqueue_at timestamptz not null default absurd.current_time(),
        first_started_at timestamptz,
        state text not null check (state in %2$s),
        attempts integer not null default 0,
        last_attempt_run uuid,
        completed_payload jsonb,
        cancelled_at timestamptz,
        idempotency_key text
      ) %3$s %4$s
    $ddl$,
    't_' || p_queue_name, v_states, v_by_task, v_hot
  );
  execute format(
    $ddl$
      create table if not exists absurd.%1$I (
        run_id uuid not null primary key,
        task_id uuid not null,
        attempt integer not null,
        state text not null check (state in %2$s),
        claimed_by text,
        claim_expires_at timestamptz,
        available_at timestamptz not null,
        wake_event text,
        event_payload jsonb,
        started_at timestamptz,
        completed_at timestamptz,
        failed_at timestamptz,
        result jsonb,
        failure_reason jsonb,
        created_at timestamptz not null default absurd.current_time()
      ) %3$s %4$s
    $ddl$,
    'r_' || p_queue_name, v_states, v_by_run, v_hot
  );
  execute format(
    $ddl$
      create table if not exists absurd.%1$I (
        task_id uuid not null,
        checkpoint_name text not null,
        state jsonb,
        status text not null default 'committed',
        owner_run_id uuid,
        updated_at timestamptz not null default absurd.current_time(),
        primary key (task_id, checkpoint_name)
      ) %2$s %3$s
    $ddl$,
    'c_' || p_queue_name, v_by_task, v_hot
  );
  execute format(
    $ddl$
      create table if not exists absurd.%1$I (
        event_name text not null primary key,
        payload jsonb,
        emitted_at timestamptz not null default absurd.current_time()
      )
    $ddl$,
    'e_' || p_queue_name
  );
  execute format(
    $ddl$
      create table if not exists absurd.%1$I (
        task_id uuid not null,
        run_id uuid not null,
        step_name text not null,
        event_name text not null,
        timeout_at timestamptz,
        created_at timestamptz not null default absurd.current_time(),
        primary key (run_id, step_name)
      ) %2$s %3$s
    $ddl$,
    'w_' || p_queue_name, v_by_run, v_hot
  );
  if v_partitioned then
    execute format(
      'create table if not exists absurd.%I (idempotency_key text not null primary key, task_id uuid not null)',
      'i_' || p_queue_name
    );
  end if;
  perform absurd.ensure_queue_indexes(p_queue_name);
  if not v_partitioned then
    -- Most tasks have no key, and need no entry.
    execute format(
      'create unique index if not exists %I on absurd.%I (idempotency_key) where idempotency_key is not null',
      't_' || p_queue_name || '_iki', 't_' || p_queue_name
    );
  end if;
end
$fn$;

-- Creates what is missing of the indexes of a queue.
create or replace function absurd.ensure_queue_indexes(p_queue_name text)
returns void
language plpgsql
as $fn$
declare
  v_prefix text;
  v_suffix text;
  v_definition text;
begin
  for v_prefix, v_suffix, v_definition in
    values
      -- runs that are or become due, in the order in which they are claimed
      ('r', 'sai', $$(available_at, run_id) where state in ('pending', 'sleeping')$$),
      -- leases by their end
      ('r', 'cei', $$(claim_expires_at) where state = 'running' and claim_expires_at is not null$$),
      ('r', 'ti', $$(task_id)$$),
      -- ended tasks by their end, for cleanup: the last run tells it, or the task itself when it was cancelled
      ('r', 'fai', $$((coalesce(completed_at, failed_at))) where state in ('completed', 'failed')$$),
      ('t', 'fai', $$(cancelled_at) where state = 'cancelled'$$),
      -- tasks by the instant at which their cancellation policy ends them
      ('t', 'cdi', $$(absurd_effect.cancel_deadline(cancellation, enqueue_at, first_started_at))
        where cancellation is not null and state in ('pending', 'running', 'sleeping')$$),
      ('w', 'ti', $$(task_id)$$),
      ('w', 'eni', $$(event_name)$$),
      ('e', 'eai', $$(emitted_at)$$)
  loop
    execute format(
      'create index if not exists %I on absurd.%I %s',
      v_prefix || '_' || p_queue_name || '_' || v_suffix, v_prefix || '_' || p_queue_name, v_definition
    );
  end loop;
end
$fn$;

-- Refuses a new queue one of whose tables, indexes or partitions, present or future, would bear the name of something
-- that exists or that another queue will need.
create or replace function absurd.refuse_colliding_queue(p_queue_name text, p_storage_mode text)
returns void
language plpgsql
as $fn$
declare
  v_taken text;
begin
  select c.relname into v_taken
  from pg_catalog.pg_class as c
  where c.relnamespace = 'absurd'::regnamespace
    -- As an array, the names are looked up in the index of the catalogue, which may have many other queues.
    and c.relname = any (array(
      select (letter || '_' || p_queue_name || suffix)::name
      from unnest(array['t', 'r', 'c', 'e', 'w', 'i']) as letter,
        unnest(array['', '_d', '_sai', '_cei', '_ti', '_fai', '_cdi', '_iki', '_eni', '_eai']) as suffix
      where (letter <> 'i' or p_storage_mode = 'partitioned')
        and (suffix <> '_d' or p_storage_mode = 'partitioned')
    ))
  order by c.relname
  limit 1;
  if found then
    raise exception 'Queue "%" cannot be created: absurd.% already exists', p_queue_name, quote_ident(v_taken);
  end if;

  select q.queue_name into v_taken
  from absurd.queues as q
  where q.queue_name <> p_queue_name
    and (
      q.storage_mode = 'partitioned'
        and left(p_queue_name, length(q.queue_name)) = q.queue_name
        and substr(p_queue_name, length(q.queue_name) + 1) ~ '^_(d|[0-9]{3})$'
      or p_storage_mode = 'partitioned'
        and left(q.queue_name, length(p_queue_name)) = p_queue_name
        and substr(q.queue_name, length(p_queue_name) + 1) ~ '^_(d|[0-9]{3})$'
    )
  limit 1;
  if found then
    raise exception 'Queue "%" cannot be created: its tables could bear the names of partitions, or the other way round, '
      'because of queue "%"', p_queue_name, v_taken;
  end if;
end
$fn$;

-- Creates a queue. A queue that exists in the same mode is left as it is; in the other mode it is an error.
create or replace function absurd.create_queue(p_queue_name text, p_storage_mode text)
returns void
language plpgsql
as $fn$
declare
  v_mode text := lower(btrim(p_storage_mode));
  v_existing text;
begin
  if v_mode is null or v_mode not in ('unpartitioned', 'partitioned') then
    raise exception 'Unsupported queue storage mode "%"', p_storage_mode;
  end if;
  perform absurd.validate_queue_name(p_queue_name);

  select q.storage_mode into v_existing from absurd.queues as q where q.queue_name = p_queue_name;
  if not found then
    -- Creations take turns, so that two of them cannot miss each other's names.
    perform pg_advisory_xact_lock(hashtextextended('absurd.create_queue', 0));
    insert into absurd.queues (queue_name, storage_mode) values (p_queue_name, v_mode) on conflict do nothing;
    if found then
      perform absurd.refuse_colliding_queue(p_queue_name, v_mode);
      perform absurd.ensure_queue_tables(p_queue_name);
      perform absurd.ensure_partitions(p_queue_name);
      return;
    end if;
    select q.storage_mode into strict v_existing from absurd.queues as q where q.queue_name = p_queue_name;
  end if;

  if v_existing <> v_mode then
    raise exception 'Queue "%" already exists with storage mode "%"', p_queue_name, v_existing;
  end if;
  -- Looking first spares a queue in use the locks of creating.
  if exists (
    select from unnest(array['t', 'r', 'c', 'e', 'w']) as letter
    where to_regclass(format('absurd.%I', letter || '_' || p_queue_name)) is null
  ) then
    perform absurd.ensure_queue_tables(p_queue_name);
    perform absurd.ensure_partitions(p_queue_name);
  end if;
end
$fn$;

create or replace function absurd.create_queue(p_queue_name text)
returns void
language sql
as $fn$
  select absurd.create_queue(p_queue_name, 'unpartitioned')
$fn$;

-- Removes a queue, all that is in it, its cron jobs, and that it was paused. An unknown queue is no error, and its name may be one that
-- could not be created today.
create or replace function absurd.drop_queue(p_queue_name text)
returns void
language plpgsql
as $fn$
declare
  v_table text;
begin
  perform from absurd.queues as q where q.queue_name = p_queue_name for update;
  if not found then
    return;
  end if;
  if absurd.cron_can_unschedule() then
    perform absurd.unschedule_scope(absurd.cron_scope(p_queue_name));
  end if;
  -- A partition is never dropped by its own name: it may be one of another queue.
  for v_table in
    select c.relname
    from pg_catalog.pg_class as c
    where c.relnamespace = 'absurd'::regnamespace
      and c.relkind in ('r', 'p')
      and not c.relispartition
      and c.relname = any (array(
        select (letter || '_' || p_queue_name)::name from unnest(array['t', 'r', 'c', 'e', 'w', 'i']) as letter
      ))
    order by c.relname
  loop
    execute format('drop table absurd.%I', v_table);
  end loop;
  perform absurd.drop_detached_leftovers(p_queue_name);
  perform absurd_effect.forget_queue(p_queue_name);
  delete from absurd.queues as q where q.queue_name = p_queue_name;
end
$fn$;

-- The names of all queues, in order.
create or replace function absurd.list_queues()
returns table (queue_name text)
language sql
as $fn$
  select q.queue_name from absurd.queues as q order by q.queue_name collate "C"
$fn$;
