select
    tenant_id,
    site_id,
    year_month,
    status,
    attempt_count,
    last_drift_pct,
    drift,
    last_error,
    updated_at
from {{ source('usage', 'billing_reconciliation_jobs') }}
