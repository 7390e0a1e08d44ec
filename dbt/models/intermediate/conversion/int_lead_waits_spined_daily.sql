{#- The Kaplan-Meier median of the hours leads of the last 30 days waited for their first contact. A lead not
    reached by the end of the day waits until then and counts as censored there. -#}
with leads as (
    select
        days.tenant_id,
        days.metric_date,
        days.time_zone,
        leads.created_at,
        coalesce(leads.first_contact_at < days.day_end_at, false) as is_reached,
        least(leads.first_contact_at, days.day_end_at) as until_at
    from {{ ref('int_leads_followed_up') }} as leads
    cross join generate_series(
        greatest(leads.created_date, {{ window_start() }}), leads.created_date + 29, interval '1 day'
    ) as day
    inner join {{ ref('int_tenant_days') }} as days
        on days.tenant_id = leads.tenant_id and days.metric_date = day::date
),

waits as (
    select
        tenant_id, metric_date, '' as basis, is_reached,
        extract(epoch from until_at - created_at) as seconds
    from leads
    union all
    select
        tenant_id, metric_date, 'business_hours', is_reached,
        ({{ business_seconds('until_at at time zone time_zone') }})
        - ({{ business_seconds('created_at at time zone time_zone') }})
    from leads
),

-- Everybody who waited at least as long was still at risk.
at_risk as (
    select
        tenant_id,
        metric_date,
        basis,
        seconds,
        is_reached,
        count(*) over (partition by tenant_id, metric_date, basis order by seconds desc) as leads_at_risk
    from waits
),

steps as (
    select
        tenant_id,
        metric_date,
        basis,
        seconds,
        min(leads_at_risk) as leads_at_risk,
        count(*) filter (where is_reached) as leads_reached,
        count(*) as leads
    from at_risk
    group by tenant_id, metric_date, basis, seconds
),

-- The product of the shares that go on waiting; a sum of logarithms, since SQL has no product.
-- Nothing is left to multiply once nobody waits, and the logarithm of 0 is not asked for.
survival as (
    select
        *,
        case
            when min(leads_at_risk - leads_reached) over earlier = 0 then 0
            else exp(sum(ln(greatest(leads_at_risk - leads_reached, 1)::float8 / leads_at_risk)) over earlier)
        end as share_waiting
    from steps
    window earlier as (partition by tenant_id, metric_date, basis order by seconds)
)

select
    tenant_id,
    metric_date,
    basis,
    sum(leads) as leads,
    sum(leads_reached) as leads_reached,
    -- A tie with one half is a median; rounding of the logarithms must not push it over.
    min(seconds) filter (where leads_reached > 0 and share_waiting <= 0.5 + 1e-9) / 3600 as median_hours
from survival
group by tenant_id, metric_date, basis
