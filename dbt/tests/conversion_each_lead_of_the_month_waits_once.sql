{{ config(group='warehouse', meta={'dagster': {'ref': {'name': 'int_lead_waits_spined_daily'}}}) }}

-- Both clocks see the leads created in the 30 days, whatever was sorted and joined on the way.
with leads as (
    select
        days.tenant_id,
        days.metric_date,
        sum(count(leads.lead_id)) over (
            partition by days.tenant_id order by days.metric_date rows between 29 preceding and current row
        ) as leads
    from {{ ref('int_tenant_days') }} as days
    left join {{ ref('int_leads_followed_up') }} as leads
        on leads.tenant_id = days.tenant_id and leads.created_date = days.metric_date
    group by days.tenant_id, days.metric_date
)

select leads.tenant_id, leads.metric_date, leads.leads, waits.leads as leads_waiting
from leads
inner join {{ ref('int_lead_waits_spined_daily') }} as waits using (tenant_id, metric_date)
where waits.leads <> leads.leads or waits.leads_reached not between 0 and waits.leads
