{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['tenant_id', 'site_id', 'day'],
    full_refresh=false,
    on_schema_change='fail',
    indexes=[{'columns': ['tenant_id', 'year_month', 'site_id']}],
    post_hook="{{ protect_rows(this) }}",
) }}
{#- Days of sites that changed are counted anew, whole. What changed is told by the transactions that wrote: below the
    oldest one that was under way when this last ran, nothing has been written since. Rows that were archived left the
    ledger, and stand here alone: it is never built from nothing again. -#}
{%- set below = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint" %}

with
{% if is_incremental() %}
looked_at as (
    -- A mark above what there is was set on another server, whose numbers say nothing here.
    select case when max(counted_to) <= {{ below }} then max(counted_to) else 0 end as txid from {{ this }}
),

changed as (
    select distinct tenant_id, site_id, day from {{ ref('stg_usage__ledger') }}
    where txid >= (select coalesce(max(txid), 0) from looked_at)
),

ledger as (
    select rows.*
    from {{ ref('stg_usage__ledger') }} as rows
    inner join changed
        on changed.tenant_id = rows.tenant_id and changed.site_id = rows.site_id and changed.day = rows.day
    -- So that pages of other times are not read.
    where rows.created_at >= (select min(day) from changed)::timestamp at time zone 'UTC'
        and rows.created_at < (select max(day) + 1 from changed)::timestamp at time zone 'UTC'
)
{% else %}
ledger as (
    select * from {{ ref('stg_usage__ledger') }}
)
{% endif %}

select
    tenant_id,
    site_id,
    day,
    year_month,
    count(*) as row_count,
    count(*) filter (where billable) as billable_count,
    count(*) filter (where billing_state = 'OVERAGE') as overage_count,
    count(*) filter (where billing_state = 'DEGRADED_CAPTURE') as degraded_count,
    count(*) filter (where billing_state = 'REJECTED_QUOTA') as rejected_count,
    {{ below }} as counted_to,
    {{ as_of() }} as counted_at
from ledger
group by 1, 2, 3, 4
