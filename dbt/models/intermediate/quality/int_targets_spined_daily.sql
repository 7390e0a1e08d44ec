{#- What is missing of the month's bookings target in force at the end of each tenant-day. -#}
with targets as (
    select days.tenant_id, days.metric_date, config.target_bookings_monthly as target_bookings
    from {{ ref('int_tenant_days') }} as days
    inner join {{ ref('stg_spine__config_versions') }} as config
        on config.tenant_id = days.tenant_id
        and config.valid_from_at < days.day_end_at
        and coalesce(config.valid_to_at, 'infinity') >= days.day_end_at
)

select
    targets.tenant_id,
    targets.metric_date,
    targets.target_bookings,
    targets.target_bookings - sum(bookings.bookings_amount) over (
        partition by targets.tenant_id, date_trunc('month', targets.metric_date) order by targets.metric_date
    ) as missing_bookings
from targets
inner join {{ ref('int_bookings_daily') }} as bookings using (tenant_id, metric_date)
