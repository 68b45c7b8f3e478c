-- For workers: hints that spare them polling, queues that are paused, and how much there is to do.

-- Queues from which nothing is claimed. A queue that was dropped and made again is another one, and not paused.
create table if not exists absurd_effect.paused_queues (
  queue_name text primary key,
  queue_created_at timestamptz not null,
  paused_at timestamptz not null default now()
);

-- Whether hints are sent at all. The setting absurd_effect.notify = 'off', of a session, a role or a database, switches them off.
create or replace function absurd_effect.hints_are_on() returns boolean
language sql stable
as $$
  select coalesce(pg_catalog.current_setting('absurd_effect.notify', true), '') <> 'off'
$$;

-- Whether the calling transaction is to send hints about `p_subject`.
--
-- Transactions that have notified commit one after another, in the whole database. So of those that are under way at one time
-- a single one sends the hint; the others leave their work to it, to the next one, or to polling.
create or replace function absurd_effect.may_hint(p_subject text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  return absurd_effect.hints_are_on()
    and pg_try_advisory_xact_lock(hashtextextended('absurd_effect ' || p_subject, 0));
end;
$$;

-- Hints that work may be due in a queue.
create or replace function absurd_effect.hint_work(p_queue text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if absurd_effect.may_hint('work ' || p_queue) then
    perform pg_notify('absurd_effect', 'w:' || p_queue);
  end if;
end;
$$;

-- Hints that these tasks have ended. A notification has room for 8,000 bytes.
--
-- `p_cancelled` says that they have not ended by themselves: then whoever works on them has to hear of it, and the hint is not
-- left to others, who would not name these tasks.
create or replace function absurd_effect.hint_end(p_queue text, p_tasks uuid[], p_cancelled boolean) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if cardinality(p_tasks) > 0
    and (p_cancelled and absurd_effect.hints_are_on() or absurd_effect.may_hint('ended ' || p_queue))
  then
    for i in 1 .. cardinality(p_tasks) by 200 loop
      perform pg_notify('absurd_effect', 'e' || array_to_string(p_tasks[i : i + 199], ',') || ':' || p_queue);
    end loop;
  end if;
end;
$$;

-- Wakes who waits for these tasks, and hints that they have ended; see there.
create or replace function absurd_effect.hint_ended(p_queue text, p_tasks uuid[], p_cancelled boolean default false)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform absurd_effect.wake_awaiting(p_queue, p_tasks);
  perform absurd_effect.hint_end(p_queue, p_tasks, p_cancelled);
end;
$$;

-- Pauses a queue or lets it go on; returns whether that changed something.
create or replace function absurd_effect.set_paused(p_queue text, p_paused boolean) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_changed boolean;
begin
  -- An unknown queue raises.
  execute absurd_effect.bind(p_queue, 'select from absurd.%2$I limit 0');
  if p_paused then
    insert into absurd_effect.paused_queues as p (queue_name, queue_created_at)
    select q.queue_name, q.created_at from absurd.queues q where q.queue_name = p_queue
    on conflict (queue_name) do update
      set queue_created_at = excluded.queue_created_at, paused_at = excluded.paused_at
      where p.queue_created_at <> excluded.queue_created_at;
    v_changed := found;
  else
    delete from absurd_effect.paused_queues p
    using absurd.queues q
    where p.queue_name = p_queue and q.queue_name = p.queue_name
    returning p.queue_created_at = q.created_at into v_changed;
    v_changed := coalesce(v_changed, false);
    if v_changed then
      perform absurd_effect.hint_work(p_queue);
    end if;
  end if;
  return v_changed;
end;
$$;

-- Forgets what is kept here of a queue that is gone.
create or replace function absurd_effect.forget_queue(p_queue text) returns void
language sql
as $$
  delete from absurd_effect.paused_queues where queue_name = p_queue;
  delete from absurd_effect.limits where queue_name = p_queue;
  delete from absurd_effect.limit_keys where queue_name = p_queue;
  delete from absurd_effect.limited_runs where queue_name = p_queue;
  delete from absurd_effect.limit_marks where queue_name = p_queue
$$;

-- How much there is to do in a queue. Each count stops at 100,000. `oldest` is for how many seconds the run that has waited
-- longest is due.
create or replace function absurd_effect.queue_load(p_queue text)
returns table (paused boolean, due bigint, later bigint, running bigint, oldest double precision)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    select
      exists (
        select from absurd_effect.paused_queues p join absurd.queues q using (queue_name)
        where q.queue_name = $2 and p.queue_created_at = q.created_at
      ),
      (select count(*) from (
        select from absurd.%2$I r where r.state in ('pending', 'sleeping') and r.available_at <= $1 limit 100000
      ) counted),
      (select count(*) from (
        select from absurd.%2$I r where r.state in ('pending', 'sleeping') and r.available_at > $1 limit 100000
      ) counted),
      (select count(*) from (
        select from absurd.%2$I r where r.state = 'running' and r.claim_expires_at is not null limit 100000
      ) counted),
      (
        select extract(epoch from $1 - r.available_at)::double precision
        from absurd.%2$I r
        where r.state in ('pending', 'sleeping') and r.available_at <= $1
        order by r.available_at
        limit 1
      )
  $q$) using absurd.current_time(), p_queue;
end;
$$;
