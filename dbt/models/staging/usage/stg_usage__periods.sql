select
    tenant_id,
    year_month,
    state,
    closed_at
from {{ source('usage', 'usage_periods') }}
