-- What each queue keeps, for how long, and in which partitions.

create or replace function absurd.get_queue_policy(p_queue_name text)
returns table (
  queue_name text,
  storage_mode text,
  default_partition text,
  partition_lookahead interval,
  partition_lookback interval,
  cleanup_ttl interval,
  cleanup_limit integer,
  detach_mode text,
  detach_min_age interval
)
language sql
as $fn$
  select q.queue_name, q.storage_mode, q.default_partition, q.partition_lookahead, q.partition_lookback, q.cleanup_ttl,
    q.cleanup_limit, q.detach_mode, q.detach_min_age
  from absurd.queues as q
  where q.queue_name = p_queue_name
$fn$;

-- Returns the policy `p_policy` with its words trimmed and in lower case, or refuses it.
create or replace function absurd.validate_queue_policy(p_policy jsonb)
returns jsonb
language plpgsql
as $fn$
declare
  v_key text;
  v_detach text;
  v_default text;
begin
  if jsonb_typeof(p_policy) <> 'object' then
    raise exception 'Queue policy must be a JSON object';
  end if;
  select k into v_key
  from jsonb_object_keys(p_policy) as k
  where k not in (
    'partition_lookahead', 'partition_lookback', 'cleanup_ttl', 'cleanup_limit', 'detach_mode', 'detach_min_age',
    'default_partition'
  )
  limit 1;
  if found then
    raise exception 'Unsupported queue policy key "%"', v_key;
  end if;
  foreach v_key in array array['partition_lookahead', 'partition_lookback', 'cleanup_ttl', 'detach_min_age'] loop
    if (p_policy ->> v_key)::interval < interval '0' then
      raise exception '% must be non-negative', v_key;
    end if;
  end loop;
  if (p_policy ->> 'cleanup_limit')::integer < 1 then
    raise exception 'cleanup_limit must be at least 1';
  end if;
  v_detach := lower(btrim(p_policy ->> 'detach_mode'));
  if v_detach not in ('none', 'empty') then
    raise exception 'Unsupported detach mode "%"', p_policy ->> 'detach_mode';
  end if;
  v_default := lower(btrim(p_policy ->> 'default_partition'));
  if v_default not in ('enabled', 'disabled') then
    raise exception 'Unsupported default_partition mode "%"', p_policy ->> 'default_partition';
  end if;
  return p_policy || jsonb_build_object('detach_mode', v_detach, 'default_partition', v_default);
end
$fn$;

-- Changes the named parts of a queue's policy. A part that is JSON null stays as it is, and so does all of it when
-- `p_policy` is null. Changes of one queue take turns.
create or replace function absurd.set_queue_policy(p_queue_name text, p_policy jsonb)
returns void
language plpgsql
as $fn$
declare
  v_policy jsonb := absurd.validate_queue_policy(p_policy);
  v_queue absurd.queues;
begin
  select q.* into v_queue from absurd.queues as q where q.queue_name = p_queue_name for update;
  if not found then
    raise exception 'Queue "%" does not exist', p_queue_name;
  end if;
  if p_policy ? 'default_partition' and v_queue.storage_mode <> 'partitioned' then
    raise exception 'default_partition policy is only supported for partitioned queues';
  end if;

  update absurd.queues as q
  set partition_lookahead = coalesce((v_policy ->> 'partition_lookahead')::interval, q.partition_lookahead),
    partition_lookback = coalesce((v_policy ->> 'partition_lookback')::interval, q.partition_lookback),
    cleanup_ttl = coalesce((v_policy ->> 'cleanup_ttl')::interval, q.cleanup_ttl),
    cleanup_limit = coalesce((v_policy ->> 'cleanup_limit')::integer, q.cleanup_limit),
    detach_mode = coalesce(v_policy ->> 'detach_mode', q.detach_mode),
    detach_min_age = coalesce((v_policy ->> 'detach_min_age')::interval, q.detach_min_age),
    default_partition = coalesce(v_policy ->> 'default_partition', q.default_partition)
  where q.queue_name = p_queue_name;

  if v_policy ->> 'default_partition' = 'enabled' then
    perform absurd.ensure_partitions(p_queue_name);
  elsif v_policy ->> 'default_partition' = 'disabled' then
    perform absurd.drop_default_partitions(p_queue_name);
  end if;
end
$fn$;
