-- Weekly partitions of partitioned queues.

-- Whether a table of this schema holds anything.
create or replace function absurd.has_rows(p_table text)
returns boolean
language plpgsql
as $fn$
declare
  v_found boolean;
begin
  execute format('select exists (select from absurd.%I)', p_table) into v_found;
  return v_found;
end
$fn$;

-- The bounds of a partition by range, in the words of pg_get_expr.
create or replace function absurd.week_bounds(p_week timestamptz)
returns text
language sql
immutable
strict
as $fn$
  select format(
    'FOR VALUES FROM (%L) TO (%L)',
    absurd.uuidv7_floor(p_week), absurd.uuidv7_floor((p_week at time zone 'UTC' + interval '7 days') at time zone 'UTC')
  )
$fn$;

-- Makes sure that the week that begins at `p_week` has its partition in `p_parent`. Rows of that week that are in the
-- default partition move into it.
create or replace function absurd.ensure_week(p_parent text, p_week timestamptz)
returns void
language plpgsql
as $fn$
declare
  v_partition text := p_parent || '_' || absurd.partition_week_tag(p_week);
  v_existing record;
begin
  select c.relispartition, pg_get_expr(c.relpartbound, c.oid) as bounds, i.inhparent into v_existing
  from pg_catalog.pg_class as c
    left join pg_catalog.pg_inherits as i on i.inhrelid = c.oid
  where c.relnamespace = 'absurd'::regnamespace
    and c.relname = v_partition::name;
  if not found then
    execute format(
      'create table absurd.%I (like absurd.%I including defaults including constraints) %s',
      v_partition, p_parent, absurd.hot_storage()
    );
    perform absurd.attach_week(p_parent, v_partition, p_week);
    return;
  end if;
  -- The tags come again after ten years.
  if v_existing.inhparent is distinct from to_regclass(format('absurd.%I', p_parent))
    or v_existing.bounds <> absurd.week_bounds(p_week)
  then
    raise exception 'The table absurd.% exists, but is not the partition of the week of % in absurd.%',
      quote_ident(v_partition), p_week, quote_ident(p_parent)
      using hint = 'Detach it if it is attached, and drop or rename it; then ensure_partitions can make the partition.';
  end if;
end
$fn$;

-- Attaches a table as the partition of a week, with the rows of that week that are in the default partition.
create or replace function absurd.attach_week(p_parent text, p_partition text, p_week timestamptz)
returns void
language plpgsql
as $fn$
declare
  v_default text := p_parent || '_d';
  v_key text := case when left(p_parent, 1) in ('t', 'c') then 'task_id' else 'run_id' end;
begin
  if absurd.is_attached(p_parent, v_default) then
    -- Nobody can add rows of the week between the move and the attachment.
    execute format('lock table absurd.%I in access exclusive mode', v_default);
    execute format(
      'with moved as (delete from absurd.%I where %I >= $1 and %2$I < $2 returning *) insert into absurd.%I select * from moved',
      v_default, v_key, p_partition
    ) using absurd.uuidv7_floor(p_week),
      absurd.uuidv7_floor((p_week at time zone 'UTC' + interval '7 days') at time zone 'UTC');
  end if;
  execute format(
    'alter table absurd.%I attach partition absurd.%I %s', p_parent, p_partition, absurd.week_bounds(p_week)
  );
end
$fn$;

-- Whether `p_partition` is a partition of `p_parent`.
create or replace function absurd.is_attached(p_parent text, p_partition text)
returns boolean
language sql
stable
as $fn$
  select exists (
    select
    from pg_catalog.pg_inherits as i
    where i.inhparent = to_regclass(format('absurd.%I', p_parent))
      and i.inhrelid = to_regclass(format('absurd.%I', p_partition))
  )
$fn$;

-- Provides the partitions that the policy of a queue asks for. Its row must be locked.
create or replace function absurd.ensure_queue_partitions(p_queue absurd.queues)
returns void
language plpgsql
as $fn$
declare
  v_now timestamptz := absurd.current_time();
  v_last timestamptz := absurd.week_bucket_utc(v_now + p_queue.partition_lookahead);
  v_week timestamptz;
  v_letter text;
  v_parent text;
begin
  foreach v_letter in array array['t', 'r', 'c', 'w'] loop
    v_parent := v_letter || '_' || p_queue.queue_name;
    if p_queue.default_partition = 'enabled' and not absurd.is_attached(v_parent, v_parent || '_d') then
      execute format(
        'create table absurd.%I partition of absurd.%I default %s', v_parent || '_d', v_parent, absurd.hot_storage()
      );
    end if;
    v_week := absurd.week_bucket_utc(v_now - p_queue.partition_lookback);
    while v_week <= v_last loop
      perform absurd.ensure_week(v_parent, v_week);
      v_week := (v_week at time zone 'UTC' + interval '7 days') at time zone 'UTC';
    end loop;
  end loop;
end
$fn$;

-- Provides the partitions of one queue, or of all. Among all, a queue that fails is reported as a warning, and one that
-- somebody else is changing at the moment is left to them.
create or replace function absurd.ensure_partitions(p_queue_name text default null)
returns void
language plpgsql
as $fn$
declare
  v_name text;
  v_queue absurd.queues;
begin
  if p_queue_name is not null then
    select q.* into v_queue from absurd.queues as q where q.queue_name = p_queue_name for update;
    if not found then
      raise exception 'Queue "%" does not exist', p_queue_name;
    end if;
    if v_queue.storage_mode = 'partitioned' then
      perform absurd.ensure_queue_partitions(v_queue);
    end if;
    return;
  end if;

  for v_name in
    select q.queue_name from absurd.queues as q where q.storage_mode = 'partitioned' order by q.queue_name collate "C"
  loop
    begin
      select q.* into v_queue from absurd.queues as q where q.queue_name = v_name for update skip locked;
      if found then
        perform absurd.ensure_queue_partitions(v_queue);
      end if;
    exception when others then
      raise warning 'The partitions of queue "%" could not be provided: %', v_name, sqlerrm;
    end;
  end loop;
end
$fn$;

-- Removes the default partitions of a queue, all of which must be empty.
create or replace function absurd.drop_default_partitions(p_queue_name text)
returns void
language plpgsql
as $fn$
declare
  v_letter text;
  v_parent text;
  v_default text;
begin
  foreach v_letter in array array['t', 'r', 'c', 'w'] loop
    v_parent := v_letter || '_' || p_queue_name;
    v_default := v_parent || '_d';
    continue when not absurd.is_attached(v_parent, v_default);
    -- The parent first, as everybody who writes through it does.
    execute format('lock table absurd.%I, absurd.%I in access exclusive mode', v_parent, v_default);
    if absurd.has_rows(v_default) then
      raise exception 'Cannot disable default_partition for queue "%": absurd.% is not empty',
        p_queue_name, quote_ident(v_default);
    end if;
    execute format('alter table absurd.%I detach partition absurd.%I', v_parent, v_default);
    execute format('drop table absurd.%I', v_default);
  end loop;
end
$fn$;
