select
    tenant_id,
    site_id,
    created_at,
    (created_at at time zone 'UTC')::date as day,
    year_month,
    billable,
    billing_state,
    txid
from {{ source('usage', 'ingest_idempotency') }}
