{#- The spine everything daily hangs on: each tenant's closed business days, from far enough before the window
    that every trailing window inside it is whole: 365 days of T365 and the 29 days data_coverage_pct looks back. -#}
with tenants as (
    select * from {{ ref('stg_spine__tenants') }}
    where {{ in_scope() }}
),

days as (
    select
        tenants.*,
        day::date as metric_date
    from tenants
    cross join generate_series(
        {{ window_start() }} - 400,
        least({{ window_end() }}, ({{ as_of() }} at time zone tenants.time_zone)::date) - 1,
        interval '1 day'
    ) as day
)

select
    days.tenant_id,
    days.metric_date,
    days.metric_date::timestamp at time zone days.time_zone as day_start_at,
    (days.metric_date + 1)::timestamp at time zone days.time_zone as day_end_at,
    days.time_zone,
    days.reporting_currency,
    days.fiscal_year_start_month,
    days.metric_date < ({{ as_of() }} at time zone days.time_zone)::date - {{ restate_days() }} as is_final
from days
