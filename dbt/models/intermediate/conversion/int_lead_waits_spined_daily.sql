{#- The Kaplan-Meier median of the hours leads of the last 30 days waited for their first contact. A lead not
    reached by the end of the day waits until then and counts as censored there. Times are microseconds on a
    clock, one that always runs and one that runs in business hours only. -#}
with leads as materialized (
    select
        leads.tenant_id,
        leads.created_date,
        leads.first_contact_at,
        started.in_business_hours,
        started.clock as started_clock,
        contacted.clock as contacted_clock
    from {{ ref('int_leads_followed_up') }} as leads
    inner join {{ ref('stg_spine__tenants') }} as tenants using (tenant_id)
    cross join lateral (
        values {{ waiting_clocks('leads.created_at', 'tenants.time_zone') }}
    ) as started (in_business_hours, clock)
    inner join lateral (
        values {{ waiting_clocks('leads.first_contact_at', 'tenants.time_zone') }}
    ) as contacted (in_business_hours, clock) using (in_business_hours)
    where leads.created_date > {{ window_start() }} - 30 and leads.created_date < {{ window_end() }}
),

days as materialized (
    select days.tenant_id, days.metric_date, days.day_end_at, ended.in_business_hours, ended.clock as ended_clock
    from {{ ref('int_tenant_days') }} as days
    cross join lateral (
        values {{ waiting_clocks('days.day_end_at', 'days.time_zone') }}
    ) as ended (in_business_hours, clock)
    where days.metric_date >= {{ window_start() }}
),

waits as (
    select
        days.tenant_id,
        days.metric_date,
        days.in_business_hours,
        coalesce(leads.first_contact_at < days.day_end_at, false) as is_reached,
        case
            when leads.first_contact_at < days.day_end_at then leads.contacted_clock else days.ended_clock
        end - leads.started_clock as waited
    from leads
    cross join generate_series(leads.created_date, leads.created_date + 29, interval '1 day') as day
    inner join days
        on days.tenant_id = leads.tenant_id
        and days.metric_date = day::date
        and days.in_business_hours = leads.in_business_hours
),

-- Whoever waited at least as long was still at risk; of equal waits those that were reached come first.
ranked as (
    select
        *,
        count(*) over (partition by tenant_id, metric_date, in_business_hours) as leads,
        row_number() over (
            partition by tenant_id, metric_date, in_business_hours order by waited, is_reached desc
        ) as place
    from waits
),

-- The product of the shares that go on waiting: a sum of logarithms, since SQL has no product. When the last
-- one is reached nobody waits any longer; a logarithm of nearly nothing says so as well.
survival as (
    select
        *,
        exp(sum(ln(greatest(leads - place, 1e-9)::float8 / (leads - place + 1))) filter (where is_reached) over (
            partition by tenant_id, metric_date, in_business_hours order by waited, is_reached desc
            rows unbounded preceding
        )) as share_waiting
    from ranked
)

select
    tenant_id,
    metric_date,
    in_business_hours,
    count(*) as leads,
    count(*) filter (where is_reached) as leads_reached,
    -- A tie with one half is a median; rounding of the logarithms must not push it over.
    min(waited) filter (where is_reached and share_waiting <= 0.5 + 1e-9) / 3600000000.0 as median_hours
from survival
group by tenant_id, metric_date, in_business_hours
