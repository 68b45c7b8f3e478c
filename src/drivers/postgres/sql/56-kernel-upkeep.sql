-- Looking after partitions without a scheduler in the database.

-- Whether a task or run of the week of a partition may go on. Its checkpoints and waits belong there, and so do the next
-- ones of a task that had none in that week yet.
create or replace function absurd_effect.is_week_alive(p_queue text, p_partition text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_bounds text[];
  v_alive boolean;
begin
  select regexp_match(
      pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \(''([0-9a-f-]+)''\) TO \(''([0-9a-f-]+)''\)$'
    ) into v_bounds
  from pg_class as c
  where c.oid = to_regclass(format('absurd.%I', p_partition));
  if v_bounds is null then
    return true;
  end if;
  execute absurd_effect.bind(p_queue, $q$
    select exists (
      select from absurd.%1$I
      where task_id >= $1 and task_id < $2 and state in ('pending', 'running', 'sleeping', 'failed')
    ) or exists (
      select from absurd.%2$I
      where run_id >= $1 and run_id < $2 and state in ('pending', 'running', 'sleeping')
    )
  $q$) into v_alive using v_bounds[1]::uuid, v_bounds[2]::uuid;
  return v_alive;
end;
$$;

-- Removes a partition that the policy of its queue gives up, and returns whether it did. It does not wait for long: while
-- somebody uses the queue for longer than a second at a time, it is left for another time. Which partitions a policy gives
-- up is said by the schema absurd, which may be another installation's; that no task needs the week is seen to here.
create or replace function absurd_effect.detach_partition(p_queue text, p_parent text, p_partition text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
declare
  v_rows boolean;
begin
  -- It may have been dropped since somebody asked for the candidates, who are not told of such a queue but refused.
  if not exists (select from absurd.queues q where q.queue_name = p_queue) then
    return false;
  end if;
  if not exists (
    select from absurd.list_detach_candidates(p_queue) as c
    where c.parent_table = p_parent and c.partition_table = p_partition
  ) or absurd_effect.is_week_alive(p_queue, p_partition) then
    return false;
  end if;
  begin
    execute format('alter table absurd.%I detach partition absurd.%I', p_parent, p_partition);
    -- From here on nobody can write to it; a row that came before makes it stay.
    execute format('select exists (select from absurd.%I)', p_partition) into v_rows;
    if v_rows then
      raise lock_not_available;
    end if;
    execute format('drop table absurd.%I', p_partition);
  exception when lock_not_available or deadlock_detected then
    return false;
  end;
  return true;
end;
$$;

-- Whether the calling transaction is now the one that looks after the store, until it ends.
create or replace function absurd_effect.try_upkeep() returns boolean
language sql
as $$
  select pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('effect-absurd upkeep', 0))
$$;

-- Provides partitions, of one queue or of all, without waiting for long: whoever waits for such a lock keeps everybody
-- else from the queue. Raises 55P03 when a queue that is asked for by name is in use for longer than a second at a time.
create or replace function absurd_effect.ensure_partitions(p_queue text) returns void
language sql
set lock_timeout = '1s'
as $$
  select absurd.ensure_partitions(p_queue)
$$;
