-- No row of a day that has not ended for the tenant by the run's clock.
{{ config(meta={'dagster': {'ref': {'name': 'metric_snapshots_daily'}}}) }}

select snapshots.tenant_id, max(snapshots.date) as last_date
from {{ ref('metric_snapshots_daily') }} as snapshots
inner join {{ ref('stg_spine__tenants') }} as tenants using (tenant_id)
where snapshots.date >= ({{ as_of() }} at time zone tenants.time_zone)::date
    and {{ window_predicate('snapshots.date', 'snapshots.tenant_id') }}
group by snapshots.tenant_id
