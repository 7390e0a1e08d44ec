{#- What came in at the top on each tenant-day, with the sums of the trailing windows. -#}
with days as (
    select tenant_id, metric_date from {{ ref('int_tenant_days') }}
),

leads as (
    select tenant_id, created_date as metric_date, count(*) as leads_created
    from {{ ref('int_leads') }}
    where created_date is not null
    group by tenant_id, created_date
),

mqls as (
    select tenant_id, mql_date as metric_date, count(*) as mqls_created
    from {{ ref('int_leads') }}
    where mql_date is not null
    group by tenant_id, mql_date
),

-- Every row of the history counts, also one that was overtaken before its day ended.
first_qualified as (
    select tenant_id, opportunity_id, min(changed_date) as qualified_date
    from {{ ref('stg_spine__opportunity_stage_history') }}
    where stage in ('qualified', 'discovery', 'proposal', 'negotiation', 'verbal', 'closed_won')
        and {{ in_scope() }}
    group by tenant_id, opportunity_id
),

qualified as (
    select tenant_id, qualified_date as metric_date, count(*) as qualified_opps_created
    from first_qualified
    group by tenant_id, qualified_date
),

opportunities as (
    select tenant_id, created_date as metric_date, count(*) as opps_created
    from {{ ref('stg_spine__opportunities') }}
    where {{ in_scope() }}
    group by tenant_id, created_date
),

daily as (
    select
        days.tenant_id,
        days.metric_date,
        coalesce(leads.leads_created, 0) as leads_created,
        coalesce(mqls.mqls_created, 0) as mqls_created,
        coalesce(qualified.qualified_opps_created, 0) as qualified_opps_created,
        coalesce(opportunities.opps_created, 0) as opps_created
    from days
    left join leads using (tenant_id, metric_date)
    left join mqls using (tenant_id, metric_date)
    left join qualified using (tenant_id, metric_date)
    left join opportunities using (tenant_id, metric_date)
)

select
    *,
    {{ rolling_sums(['leads_created', 'mqls_created', 'qualified_opps_created', 'opps_created']) }}
from daily
