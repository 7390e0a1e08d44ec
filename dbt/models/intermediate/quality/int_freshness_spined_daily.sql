{#- The age of each required source's latest hand-over at the end of each tenant-day; null when there was none. -#}
with sources as (
    select distinct tenant_id, source_system
    from {{ ref('stg_ops__source_coverage') }}
    where is_required and {{ in_scope() }}
),

hand_overs as (
    select tenant_id, source_system, ingested_date, max(last_ingested_at) as last_ingested_at
    from {{ ref('stg_ops__source_watermarks') }}
    where {{ in_scope() }}
    group by tenant_id, source_system, ingested_date
),

latest as (
    select
        days.tenant_id,
        days.metric_date,
        days.day_end_at,
        sources.source_system,
        max(hand_overs.last_ingested_at) as last_ingested_at
    from {{ ref('int_tenant_days') }} as days
    inner join sources using (tenant_id)
    left join lateral (
        -- The newest hand-over by then: days without one look back as far as it takes.
        select hand_overs.last_ingested_at
        from hand_overs
        where hand_overs.tenant_id = days.tenant_id
            and hand_overs.source_system = sources.source_system
            and hand_overs.ingested_date <= days.metric_date
        order by hand_overs.ingested_date desc
        limit 1
    ) as hand_overs on true
    where days.metric_date >= {{ window_start() }}
    group by days.tenant_id, days.metric_date, days.day_end_at, sources.source_system
)

select
    tenant_id,
    metric_date,
    source_system,
    extract(epoch from day_end_at - last_ingested_at) / 3600 as age_hours
from latest
