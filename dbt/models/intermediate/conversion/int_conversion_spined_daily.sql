{#- Counts behind the conversion ratios at the end of each tenant-day. -#}
with days as (
    select tenant_id, metric_date from {{ ref('int_tenant_days') }}
),

first_days as (
    select tenant_id, min(metric_date) as first_date from days group by tenant_id
),

-- A closed deal counts from the day it stands closed until it is reopened or 90 days have gone by.
closings as (
    select
        states.tenant_id,
        greatest(edge.edge_date, first_days.first_date) as metric_date,
        sum(edge.sign) as closed_deals,
        sum(edge.sign) filter (where states.stage = 'closed_won') as won_deals,
        sum(edge.sign) filter (where states.amount is not null) as valued_deals,
        sum(edge.sign * states.amount) as closed_amount,
        sum(edge.sign * states.amount) filter (where states.stage = 'closed_won') as won_amount
    from {{ ref('int_deal_states') }} as states
    inner join first_days using (tenant_id)
    cross join lateral (values
        (states.from_date, 1),
        -- A state that begins after its 90 days counts on no day.
        (greatest(least(states.to_date, states.closed_date + 90), states.from_date), -1)
    ) as edge (edge_date, sign)
    where not states.is_open and edge.edge_date < {{ window_end() }}
    group by states.tenant_id, greatest(edge.edge_date, first_days.first_date)
),

leads as (
    select
        tenant_id,
        created_date as metric_date,
        count(*) as leads,
        count(*) filter (where has_deal) as leads_with_deal
    from {{ ref('int_leads_followed_up') }}
    group by tenant_id, created_date
),

follow_ups as (
    select
        tenant_id,
        due_date as metric_date,
        count(*) as leads_due,
        count(*) filter (where is_contacted_in_time) as leads_in_time
    from {{ ref('int_leads_followed_up') }}
    group by tenant_id, due_date
),

meetings as (
    select
        tenant_id,
        occurred_date as metric_date,
        count(*) as meetings,
        count(*) filter (where outcome = 'no_show') as no_shows
    from {{ ref('stg_spine__activities') }}
    where activity_type = 'meeting' and outcome is distinct from 'cancelled' and {{ in_scope() }}
    group by tenant_id, occurred_date
),

history as (
    select * from {{ ref('stg_spine__opportunity_stage_history') }} where {{ in_scope() }}
),

proposed as (
    select tenant_id, opportunity_id, min(changed_at) as proposed_at, min(changed_date) as metric_date
    from history
    where stage = 'proposal'
    group by tenant_id, opportunity_id
),

proposals as (
    select
        proposed.tenant_id,
        proposed.metric_date,
        count(distinct proposed.opportunity_id) as proposals,
        count(distinct won.opportunity_id) as accepted
    from proposed
    left join history as won
        on won.tenant_id = proposed.tenant_id
        and won.opportunity_id = proposed.opportunity_id
        and won.stage = 'closed_won'
        and won.changed_at between proposed.proposed_at and proposed.proposed_at + interval '1440 hours'
    group by proposed.tenant_id, proposed.metric_date
)

select
    days.tenant_id,
    {% for window, source, columns in [
        ('since_ever', 'closings', ['closed_deals', 'won_deals', 'valued_deals', 'closed_amount', 'won_amount']),
        ('matured_lead', 'leads', ['leads', 'leads_with_deal']),
        ('month', 'follow_ups', ['leads_due', 'leads_in_time']),
        ('month', 'meetings', ['meetings', 'no_shows']),
        ('matured_proposal', 'proposals', ['proposals', 'accepted']),
    ] -%}
    {%- for column in columns -%}
    coalesce(sum({{ source }}.{{ column }}) over {{ window }}, 0) as {{ column }},
    {% endfor -%}
    {%- endfor -%}
    days.metric_date
from days
left join closings using (tenant_id, metric_date)
left join leads using (tenant_id, metric_date)
left join follow_ups using (tenant_id, metric_date)
left join meetings using (tenant_id, metric_date)
left join proposals using (tenant_id, metric_date)
window
    since_ever as (partition by days.tenant_id order by days.metric_date),
    month as (partition by days.tenant_id order by days.metric_date rows between 29 preceding and current row),
    matured_lead as (
        partition by days.tenant_id order by days.metric_date rows between 59 preceding and 30 preceding
    ),
    matured_proposal as (
        partition by days.tenant_id order by days.metric_date rows between 149 preceding and 60 preceding
    )
