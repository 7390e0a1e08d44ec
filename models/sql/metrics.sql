-- Reading the daily snapshots. Totals are the rows with an empty dimension key.

-- tenants_latest --
-- The newest day each tenant has snapshots for.
select tenants.id as tenant_id, tenants.slug, tenants.name, max(snapshots.date) as date
from spine.tenants
inner join analytics.metric_snapshots_daily as snapshots on snapshots.tenant_id = tenants.id
where snapshots.metric_id = 'data_coverage_pct'
group by tenants.id, tenants.slug, tenants.name
order by tenants.slug

-- day --
-- All totals of a tenant's day, in the order of the dictionary.
select definitions.metric_id, definitions.title, definitions.unit, definitions.domain, definitions.direction,
    snapshots.date, snapshots.value, snapshots.value_status, snapshots.numerator, snapshots.denominator,
    snapshots.sample_size, snapshots.window_days, snapshots.is_final, snapshots.computed_at
from analytics.metric_snapshots_daily as snapshots
inner join analytics.metric_definitions as definitions using (metric_id)
where snapshots.tenant_id = :tenant_id and snapshots.date = :date and snapshots.dimension_key = ''
order by array_position(array['demand', 'paid', 'conversion', 'economics', 'quality'], definitions.domain),
    definitions.metric_id

-- history --
-- One metric over a span of days.
select date, value, value_status, numerator, denominator, sample_size, is_final, computed_at, run_id
from analytics.metric_snapshots_daily
where tenant_id = :tenant_id and metric_id = :metric_id and dimension_key = :dimension_key
    and date between :first and :last
order by date

-- by_tenant --
-- One metric over a span of days for the first eight tenants: more lines cannot be told apart in a chart.
select tenants.slug, snapshots.date, snapshots.value
from analytics.metric_snapshots_daily as snapshots
inner join spine.tenants on tenants.id = snapshots.tenant_id
where snapshots.metric_id = :metric_id and snapshots.dimension_key = '' and snapshots.date between :first and :last
    and tenants.slug in (
        select slug from spine.tenants where status <> 'suspended' order by slug limit 8
    )
order by tenants.slug, snapshots.date

-- dimensions --
-- The other rows of a metric on a day.
select dimension_key, value, value_status, numerator, denominator, sample_size
from analytics.metric_snapshots_daily
where tenant_id = :tenant_id and metric_id = :metric_id and date = :date and dimension_key <> ''
order by dimension_key

-- definition --
select * from analytics.metric_definitions where metric_id = :metric_id

-- definitions --
-- The dictionary for people.
select metric_id, unit, direction, domain, formula from analytics.metric_definitions order by domain, metric_id

-- exists --
-- Whether dbt has built the snapshots at all.
select to_regclass('analytics.metric_snapshots_daily') is not null

-- dictionary --
-- Every id one may ask for, aliases with the id they stand for.
select metric_id as asked, metric_id from analytics.metric_definitions
union all
select alias, metric_id from analytics.metric_aliases

-- coverage --
-- The days the sources of a metric speak for.
select fact, source_system, covered_from, covered_to, is_required
from ops.source_coverage
where tenant_id = :tenant_id and (fact = any(:facts) or :all_facts)
order by fact, source_system

-- kernel_input --
-- The totals of each tenant's newest day: what the decision kernel reads.
select snapshots.tenant_id::text as tenant_id, snapshots.date, snapshots.metric_id, snapshots.value,
    snapshots.value_status, (snapshots.value_status = 'ok') = (snapshots.value is not null) as value_is_consistent
from analytics.metric_snapshots_daily as snapshots
inner join (
    select tenant_id, max(date) as date from analytics.metric_snapshots_daily
    where metric_id = 'data_coverage_pct' group by tenant_id
) as newest using (tenant_id, date)
where snapshots.dimension_key = ''
