-- The running sum by days ends where the plain sum of all entries ends: nothing before the first day was lost.
{{ config(meta={'dagster': {'ref': {'name': 'int_mrr_spined_daily'}}}) }}

with last_days as (
    select distinct on (tenant_id) tenant_id, metric_date, mrr
    from {{ ref('int_mrr_spined_daily') }}
    order by tenant_id, metric_date desc
)

select last_days.tenant_id, last_days.mrr, sum(changes.mrr_delta) as ledger_mrr
from last_days
left join {{ ref('int_mrr_changes') }} as changes
    on changes.tenant_id = last_days.tenant_id and changes.effective_date <= last_days.metric_date
group by last_days.tenant_id, last_days.mrr
having last_days.mrr <> coalesce(sum(changes.mrr_delta), 0)
