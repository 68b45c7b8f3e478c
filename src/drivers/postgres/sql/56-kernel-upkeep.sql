-- Looking after partitions without a scheduler in the database.

-- Removes a partition that the policy of its queue gives up, and returns whether it did. It does not wait for long: while
-- somebody uses the queue for longer than a second at a time, it is left for another time.
create or replace function absurd_effect.detach_partition(p_queue text, p_parent text, p_partition text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
declare
  v_rows boolean;
begin
  if not exists (
    select from absurd.list_detach_candidates(p_queue) as c
    where c.parent_table = p_parent and c.partition_table = p_partition
  ) then
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
