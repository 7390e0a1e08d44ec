{#- The days each metric can speak for, from the facts its definition names. A metric one of whose facts was
    never loaded has no row; facts without dates and finance inputs (which have a rule of their own) are not asked. -#}
with required_facts as (
    select definitions.metric_id, fact
    from {{ ref('metric_definitions') }} as definitions
    cross join unnest(string_to_array(definitions.sources, ';')) as fact
    where fact in (
        'events', 'activities', 'opportunities', 'opportunity_stage_history', 'channel_spend_daily',
        'revenue_events', 'subscription_ledger'
    )
),

tenants as (
    select tenant_id from {{ ref('stg_spine__tenants') }} where {{ in_scope() }}
)

select
    tenants.tenant_id,
    required_facts.metric_id,
    max(coverage.covered_from_date) as covered_from_date,
    min(coverage.covered_to_date) as covered_to_date,
    min(coverage.covered_from_date) = max(coverage.covered_from_date) as begins_together
from tenants
cross join required_facts
left join {{ ref('int_fact_coverage') }} as coverage
    on coverage.tenant_id = tenants.tenant_id and coverage.fact = required_facts.fact
group by tenants.tenant_id, required_facts.metric_id
having count(*) = count(coverage.fact)
