{{ config(materialized='table', post_hook="{{ protect_rows(this) }}") }}
{#- What each place that counts said of a month when it was last compared with the ledger; null where it does not count. -#}
select
    jobs.tenant_id,
    jobs.site_id,
    jobs.year_month,
    periods.state as period_state,
    jobs.status,
    jobs.attempt_count,
    jobs.last_drift_pct,
    (jobs.drift -> 'ledger' ->> 'rows')::bigint as ledger_rows,
    (jobs.drift -> 'ledger' ->> 'billable')::bigint as ledger_billable,
    (jobs.drift -> 'ledger' ->> 'overage')::bigint as ledger_overage,
    (jobs.drift -> 'counters' ->> 'billable')::bigint as counter_billable,
    (jobs.drift -> 'usage_ledger_daily' ->> 'billable')::bigint as daily_billable,
    (jobs.drift -> 'site_usage_monthly' ->> 'billable')::bigint as monthly_billable,
    (jobs.drift -> 'invoice_snapshot' ->> 'billable')::bigint as invoiced_billable,
    (jobs.drift -> 'delivered' ->> 'rows')::bigint as delivered_rows,
    (jobs.drift ->> 'quarantined')::bigint as quarantined_rows,
    coalesce(jobs.drift -> 'alarms' <> '[]'::jsonb, false) as is_alarming,
    jobs.last_error,
    jobs.updated_at as compared_at
from {{ ref('stg_usage__reconciliation') }} as jobs
left join {{ ref('stg_usage__periods') }} as periods
    on periods.tenant_id = jobs.tenant_id and periods.year_month = jobs.year_month
