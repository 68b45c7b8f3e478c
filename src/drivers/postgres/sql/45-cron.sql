-- Scheduling by pg_cron, if it is there. It is looked for at each call, since it may come and go.

-- Whether jobs can be read and removed.
create or replace function absurd.cron_can_unschedule()
returns boolean
language sql
stable
as $fn$
  select to_regclass('cron.job') is not null and to_regprocedure('cron.unschedule(bigint)') is not null
$fn$;

create or replace function absurd.require_cron()
returns void
language plpgsql
as $fn$
begin
  if not absurd.cron_can_unschedule() or to_regprocedure('cron.schedule(text,text,text)') is null then
    raise exception 'pg_cron is not available (cron.job, cron.schedule and cron.unschedule are needed)';
  end if;
end
$fn$;

create or replace function absurd.require_queue_or_all(p_queue_name text)
returns void
language plpgsql
as $fn$
begin
  if p_queue_name is not null and not exists (select from absurd.queues as q where q.queue_name = p_queue_name) then
    raise exception 'Queue "%" does not exist', p_queue_name;
  end if;
end
$fn$;

-- The part of a job's name that says what it is for: one queue, or all.
create or replace function absurd.cron_scope(p_queue_name text)
returns text
language sql
immutable
as $fn$
  select coalesce(left(md5(p_queue_name), 12), 'all')
$fn$;

-- Removes the jobs of a name.
create or replace function absurd.unschedule_job(p_job_name text)
returns void
language plpgsql
as $fn$
declare
  v_id bigint;
begin
  for v_id in execute 'select jobid from cron.job where jobname = $1' using p_job_name loop
    execute 'select cron.unschedule($1)' using v_id;
  end loop;
end
$fn$;

-- Removes all jobs of a scope and returns them.
create or replace function absurd.unschedule_scope(p_scope text)
returns table (job_name text, job_id bigint)
language plpgsql
as $fn$
begin
  for job_name, job_id in
    execute $q$
      select jobname::text, jobid
      from cron.job
      where jobname in ('absurd_partitions_' || $1, 'absurd_cleanup_' || $1, 'absurd_detach_plan_' || $1)
        or jobname ~ ('^absurd_(detach|drop)_run_' || $1 || '_')
      order by jobname, jobid
    $q$ using p_scope
  loop
    execute 'select cron.unschedule($1)' using job_id;
    return next;
  end loop;
end
$fn$;

-- Schedules a job in the place of those of the same name.
create or replace function absurd.schedule_job(p_job_name text, p_schedule text, p_command text)
returns bigint
language plpgsql
as $fn$
declare
  v_id bigint;
begin
  perform absurd.unschedule_job(p_job_name);
  execute 'select cron.schedule($1, $2, $3)' into v_id using p_job_name, p_schedule, p_command;
  return v_id;
end
$fn$;

-- Schedules the upkeep of one queue, or of all: partitions, cleaning, and the planning of detachments.
create or replace function absurd.enable_cron(
  p_queue_name text default null,
  p_partition_schedule text default '5 * * * *',
  p_cleanup_schedule text default '17 * * * *',
  p_detach_schedule text default '29 * * * *'
)
returns table (job_name text, job_id bigint)
language plpgsql
as $fn$
declare
  v_scope constant text := absurd.cron_scope(p_queue_name);
  v_queue constant text := coalesce(quote_literal(p_queue_name), 'null::text');
  v_schedule text;
  v_command text;
begin
  perform absurd.require_cron();
  perform absurd.require_queue_or_all(p_queue_name);
  if coalesce(btrim(p_partition_schedule), '') = '' then
    raise exception 'Partition schedule must be provided';
  elsif coalesce(btrim(p_cleanup_schedule), '') = '' then
    raise exception 'Cleanup schedule must be provided';
  elsif coalesce(btrim(p_detach_schedule), '') = '' then
    raise exception 'Detach schedule must be provided';
  end if;
  for job_name, v_schedule, v_command in
    values
      ('absurd_partitions_' || v_scope, p_partition_schedule, 'select absurd.ensure_partitions(' || v_queue || ')'),
      ('absurd_cleanup_' || v_scope, p_cleanup_schedule, 'select * from absurd.cleanup_all_queues(' || v_queue || ')'),
      ('absurd_detach_plan_' || v_scope, p_detach_schedule, 'select * from absurd.schedule_detach_jobs(' || v_queue || ')')
  loop
    job_id := absurd.schedule_job(job_name, v_schedule, v_command);
    return next;
  end loop;
end
$fn$;

-- Removes the jobs of one queue, or those that are for all queues, and returns them.
create or replace function absurd.disable_cron(p_queue_name text default null)
returns table (job_name text, job_id bigint)
language plpgsql
as $fn$
begin
  perform absurd.require_cron();
  return query select u.job_name, u.job_id from absurd.unschedule_scope(absurd.cron_scope(p_queue_name)) as u;
end
$fn$;

-- Schedules, for each table that has a candidate and no such job yet, the detachment of the oldest one and the drop that
-- follows. They are two jobs because a concurrent detachment has to be a statement of its own.
create or replace function absurd.schedule_detach_jobs(p_queue_name text default null)
returns table (job_name text, job_id bigint, queue_name text, partition_table text, job_kind text)
language plpgsql
as $fn$
declare
  v_candidate record;
  v_parent_hash text;
  v_name text;
  v_planned boolean;
begin
  perform absurd.require_cron();
  perform absurd.require_queue_or_all(p_queue_name);
  for v_candidate in
    select distinct on (c.parent_table) c.queue_name, c.parent_table, c.partition_table
    from absurd.list_detach_candidates(p_queue_name) with ordinality as c
    order by c.parent_table, c.ordinality
  loop
    v_parent_hash := left(md5(v_candidate.parent_table), 8);
    execute 'select exists (select from cron.job where jobname ~ $1)' into v_planned
    using '^absurd_(detach|drop)_run_[0-9a-z]+_' || v_parent_hash || '_';
    continue when v_planned;

    v_name := format(
      '%s_%s_%s', absurd.cron_scope(p_queue_name), v_parent_hash,
      left(md5(v_candidate.parent_table || ':' || v_candidate.partition_table), 12)
    );
    queue_name := v_candidate.queue_name;
    partition_table := v_candidate.partition_table;

    job_kind := 'detach';
    job_name := 'absurd_detach_run_' || v_name;
    job_id := absurd.schedule_job(job_name, '* * * * *', format(
      'alter table absurd.%I detach partition absurd.%I%s', v_candidate.parent_table, v_candidate.partition_table,
      case when absurd.has_default_partition(v_candidate.parent_table) then '' else ' concurrently' end
    ));
    return next;

    job_kind := 'drop';
    job_name := 'absurd_drop_run_' || v_name;
    job_id := absurd.schedule_job(job_name, '* * * * *', format(
      'select absurd.drop_detached_partition(%L, %L)', v_candidate.partition_table, job_name
    ));
    return next;
  end loop;
end
$fn$;

create or replace function absurd.has_default_partition(p_parent text)
returns boolean
language sql
stable
as $fn$
  select exists (
    select from pg_catalog.pg_partitioned_table as p
    where p.partrelid = to_regclass(format('absurd.%I', p_parent)) and p.partdefid <> 0
  )
$fn$;
