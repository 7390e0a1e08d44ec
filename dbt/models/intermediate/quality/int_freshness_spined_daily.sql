{#- The age of each required source's latest hand-over at the end of each tenant-day; null when there was none. -#}
with days as (
    select * from {{ ref('int_tenant_days') }} where metric_date >= {{ window_start() }}
),

sources as (
    select distinct tenant_id, source_system
    from {{ ref('stg_ops__source_coverage') }}
    where is_required and {{ in_scope() }}
),

hand_overs as (
    select
        tenant_id,
        source_system,
        greatest(ingested_date, {{ window_start() }}) as metric_date,
        max(last_ingested_at) as last_ingested_at
    from {{ ref('stg_ops__source_watermarks') }}
    where {{ in_scope() }}
    group by tenant_id, source_system, greatest(ingested_date, {{ window_start() }})
)

select
    days.tenant_id,
    days.metric_date,
    sources.source_system,
    extract(epoch from days.day_end_at - max(hand_overs.last_ingested_at) over (
        partition by days.tenant_id, sources.source_system order by days.metric_date
    )) / 3600 as age_hours
from days
inner join sources using (tenant_id)
left join hand_overs using (tenant_id, source_system, metric_date)
