{{ config(materialized='table', post_hook="{{ protect_rows(this) }}") }}

select
    tenant_id,
    site_id,
    year_month,
    sum(billable_count)::bigint as event_count,
    sum(overage_count)::bigint as overage_count,
    sum(rejected_count)::bigint as rejected_count,
    sum(row_count)::bigint as row_count,
    max(counted_to) as counted_to,
    max(counted_at) as last_synced_at
from {{ ref('usage_ledger_daily') }}
group by 1, 2, 3
