-- Taking away old weekly partitions.

-- The empty weekly partitions that the policies of partitioned queues give up, of one queue or of all. A week is kept
-- whole while one of its tasks or runs may go on, because its checkpoints and waits still belong there.
create or replace function absurd.list_detach_candidates(p_queue_name text default null)
returns table (queue_name text, parent_table text, partition_table text)
language plpgsql
as $fn$
declare
  v_queue absurd.queues;
  v_partition record;
  v_alive boolean;
begin
  if p_queue_name is not null and not exists (select from absurd.queues as q where q.queue_name = p_queue_name) then
    raise exception 'Queue "%" does not exist', p_queue_name;
  end if;
  for v_queue in
    select q.*
    from absurd.queues as q
    where (p_queue_name is null or q.queue_name = p_queue_name)
      and q.storage_mode = 'partitioned'
      and q.detach_mode = 'empty'
    order by q.queue_name collate "C"
  loop
    for v_partition in
      select p.parent_name, p.partition_name, p.lower_id, p.upper_id
      from absurd.weekly_partitions(v_queue.queue_name) as p
      where absurd.uuidv7_timestamp(p.upper_id) < absurd.current_time() - v_queue.detach_min_age
      order by p.parent_name collate "C", p.upper_id
    loop
      continue when absurd.has_rows(v_partition.partition_name);
      execute format(
        $q$
          select exists (
            select from absurd.%I
            where task_id >= $1 and task_id < $2 and state in ('pending', 'running', 'sleeping', 'failed')
          ) or exists (
            select from absurd.%I
            where run_id >= $1 and run_id < $2 and state in ('pending', 'running', 'sleeping')
          )
        $q$,
        't_' || v_queue.queue_name, 'r_' || v_queue.queue_name
      ) into v_alive using v_partition.lower_id, v_partition.upper_id;
      continue when v_alive;
      queue_name := v_queue.queue_name;
      parent_table := v_partition.parent_name;
      partition_table := v_partition.partition_name;
      return next;
    end loop;
  end loop;
end
$fn$;

-- The attached weekly partitions of a queue with their bounds.
create or replace function absurd.weekly_partitions(p_queue_name text)
returns table (parent_name text, partition_name text, lower_id uuid, upper_id uuid)
language sql
as $fn$
  select b.parent_name, b.partition_name, b.bounds[1]::uuid, b.bounds[2]::uuid
  from (
    select parent.relname::text as parent_name, child.relname::text as partition_name,
      regexp_match(
        pg_get_expr(child.relpartbound, child.oid), '^FOR VALUES FROM \(''([0-9a-f-]+)''\) TO \(''([0-9a-f-]+)''\)$'
      ) as bounds
    from pg_catalog.pg_class as parent
      join pg_catalog.pg_inherits as i on i.inhparent = parent.oid
      join pg_catalog.pg_class as child on child.oid = i.inhrelid
    where parent.relnamespace = 'absurd'::regnamespace
      and child.relnamespace = 'absurd'::regnamespace
      and parent.relname in (
        select (letter || '_' || p_queue_name)::name from unnest(array['t', 'r', 'c', 'w']) as letter
      )
  ) as b
  where b.bounds is not null
$fn$;

-- Drops a partition that has been detached, and says whether it did. It does not while the table is attached. A table
-- that rows came into between planning and detaching goes back to its place instead. The cron job
-- `p_unschedule_job_name` ends itself that way, and its twin that detaches.
create or replace function absurd.drop_detached_partition(
  p_partition_table text,
  p_unschedule_job_name text default null
)
returns boolean
language plpgsql
as $fn$
declare
  v_table regclass;
  v_parent text := left(p_partition_table, -4);
  v_dropped boolean := false;
begin
  if p_partition_table is null or btrim(p_partition_table) = '' then
    raise exception 'partition table must be provided';
  end if;
  v_table := to_regclass(format('absurd.%I', p_partition_table));
  if v_table is not null then
    if exists (select from pg_catalog.pg_class as c where c.oid = v_table and c.relispartition) then
      return false;
    end if;
    if p_partition_table !~ '^[trcw]_.+_[0-9]{3}$'
      or exists (select from absurd.queues as q where q.queue_name = substr(p_partition_table, 3))
    then
      raise exception 'The table absurd.% is not a weekly partition', quote_ident(p_partition_table);
    end if;
    execute format('lock table absurd.%I in access exclusive mode', p_partition_table);
    if absurd.has_rows(p_partition_table) then
      perform absurd.reattach_week(v_parent, p_partition_table);
    else
      execute format('drop table absurd.%I', p_partition_table);
      v_dropped := true;
    end if;
  end if;
  if absurd.cron_can_unschedule() then
    perform absurd.unschedule_job(replace(p_unschedule_job_name, 'absurd_drop_run_', 'absurd_detach_run_'));
    perform absurd.unschedule_job(p_unschedule_job_name);
  end if;
  return v_dropped;
end
$fn$;

-- Puts a detached partition that has rows back to its place.
create or replace function absurd.reattach_week(p_parent text, p_partition text)
returns void
language plpgsql
as $fn$
declare
  v_key text := case when left(p_parent, 1) in ('t', 'c') then 'task_id' else 'run_id' end;
  v_id uuid;
begin
  execute format('select %I from absurd.%I limit 1', v_key, p_partition) into v_id;
  perform absurd.attach_week(p_parent, p_partition, absurd.week_bucket_utc(absurd.uuidv7_timestamp(v_id)));
end
$fn$;

-- Drops the empty tables that were partitions of a queue and were detached before its tables were dropped.
create or replace function absurd.drop_detached_leftovers(p_queue_name text)
returns void
language plpgsql
as $fn$
declare
  v_table text;
begin
  for v_table in
    select c.relname
    from pg_catalog.pg_class as c
    where c.relnamespace = 'absurd'::regnamespace
      and c.relkind = 'r'
      and not c.relispartition
      and left(c.relname, 2) in ('t_', 'r_', 'c_', 'w_')
      and substr(c.relname, 3, length(c.relname) - 6) = p_queue_name
      and right(c.relname, 4) ~ '^_[0-9]{3}$'
      and not exists (select from absurd.queues as q where q.queue_name = substr(c.relname, 3))
  loop
    if not absurd.has_rows(v_table) then
      execute format('drop table absurd.%I', v_table);
    end if;
  end loop;
end
$fn$;
