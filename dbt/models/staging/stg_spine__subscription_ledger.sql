select
    tenant_id,
    account_id,
    effective_date,
    reason,
    mrr_delta,
    currency
from {{ source('spine', 'subscription_ledger') }}
