-- The kernel's schema, and the one function of it that an index of the queues' tables uses.

create schema if not exists absurd_effect;

-- When a cancellation policy ends a task that has not ended by itself, or null for never.
--
-- Before the first start `max_delay` seconds after it was due, from then on `max_duration` seconds after that start.
-- Limits are whole seconds of at most nine digits; anything else limits nothing, so that no stored policy can raise.
create or replace function absurd_effect.cancel_deadline(
  cancellation jsonb,
  enqueue_at timestamptz,
  first_started_at timestamptz
) returns timestamptz
language plpgsql immutable parallel safe
as $$
declare
  v_limit text := cancellation ->> case when first_started_at is null then 'max_delay' else 'max_duration' end;
begin
  if v_limit ~ '^[0-9]{1,9}$' then
    return coalesce(first_started_at, enqueue_at) + pg_catalog.make_interval(secs => v_limit::double precision);
  end if;
  return null;
end;
$$;
