{{ config(materialized='table', post_hook="{{ protect_rows(this) }}") }}

with cases as (
    select
        tenant_id,
        attempt_id,
        bool_or(resolved_at is null) as is_open,
        min(opened_at) filter (where resolved_at is null) as open_since_at
    from {{ ref('stg_delivery__cases') }}
    where attempt_id is not null
    group by tenant_id, attempt_id
),

units as (
    select
        tenant_id,
        attempt_id,
        sum(units) filter (where kind = 'reserve') as reserved,
        sum(units) filter (where kind = 'commit') as committed,
        sum(units) filter (where kind = 'release') as released
    from {{ ref('stg_delivery__usage_entries') }}
    group by tenant_id, attempt_id
),

attempts as (
    select
        attempts.tenant_id,
        attempts.attempt_date as date,
        items.channel,
        count(*) as attempts,
        count(*) filter (where attempts.state = 'accepted') as accepted,
        count(*) filter (where cases.attempt_id is not null) as unknown,
        count(*) filter (where cases.is_open) as unknown_open,
        (max(extract(epoch from {{ as_of() }} - cases.open_since_at)) / 3600)::numeric(18, 3) as oldest_unknown_hours,
        count(*) filter (where attempts.replays > 0) as replayed,
        coalesce(sum(units.reserved), 0) as units_reserved,
        coalesce(sum(units.committed), 0) as units_committed,
        coalesce(sum(units.released), 0) as units_released
    from {{ ref('stg_delivery__attempts') }} as attempts
    inner join {{ ref('stg_delivery__items') }} as items
        on items.tenant_id = attempts.tenant_id and items.item_id = attempts.item_id
    left join cases on cases.tenant_id = attempts.tenant_id and cases.attempt_id = attempts.attempt_id
    left join units on units.tenant_id = attempts.tenant_id and units.attempt_id = attempts.attempt_id
    group by 1, 2, 3
),

effects as (
    select
        tenant_id,
        effect_date as date,
        channel,
        count(*) as effects,
        count(*) filter (where is_duplicate) as duplicate_effects
    from {{ ref('int_delivery_effects') }}
    group by 1, 2, 3
)

select
    tenant_id,
    date,
    channel,
    coalesce(attempts.attempts, 0) as attempts,
    coalesce(attempts.accepted, 0) as accepted,
    coalesce(effects.effects, 0) as effects,
    coalesce(effects.duplicate_effects, 0) as duplicate_effects,
    (effects.duplicate_effects::numeric / nullif(effects.effects, 0))::numeric(18, 6) as duplicate_effect_rate,
    coalesce(attempts.unknown, 0) as unknown,
    (attempts.unknown::numeric / nullif(attempts.attempts, 0))::numeric(18, 6) as unknown_rate,
    coalesce(attempts.unknown_open, 0) as unknown_open,
    attempts.oldest_unknown_hours,
    coalesce(attempts.replayed, 0) as replayed,
    (attempts.replayed::numeric / nullif(attempts.attempts, 0))::numeric(18, 6) as replay_rate,
    coalesce(attempts.units_reserved, 0)::numeric(18, 4) as units_reserved,
    coalesce(attempts.units_committed, 0)::numeric(18, 4) as units_committed,
    coalesce(attempts.units_released, 0)::numeric(18, 4) as units_released,
    (attempts.units_committed / nullif(attempts.accepted, 0))::numeric(18, 6) as units_per_accepted
from attempts
full join effects using (tenant_id, date, channel)
