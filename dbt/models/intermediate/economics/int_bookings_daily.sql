{#- What was booked on each tenant-day, with the sums of the trailing windows. -#}
with days as (
    select tenant_id, metric_date from {{ ref('int_tenant_days') }}
),

bookings as (
    select
        tenant_id,
        effective_date as metric_date,
        sum(booking_amount) as bookings_amount,
        count(*) filter (where revenue_type = 'new_booking') as bookings_count,
        count(*) as booking_rows
    from {{ ref('int_revenue_events') }}
    where revenue_type = 'new_booking' or refunds_booking
    group by tenant_id, effective_date
),

daily as (
    select
        days.tenant_id,
        days.metric_date,
        coalesce(bookings.bookings_amount, 0) as bookings_amount,
        coalesce(bookings.bookings_count, 0) as bookings_count,
        coalesce(bookings.booking_rows, 0) as booking_rows
    from days
    left join bookings using (tenant_id, metric_date)
)

select
    *,
    {{ rolling_sums(['bookings_amount', 'bookings_count', 'booking_rows']) }}
from daily
