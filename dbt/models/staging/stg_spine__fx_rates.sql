select
    tenant_id,
    rate_date,
    base_currency,
    quote_currency,
    rate
from {{ source('spine', 'fx_rates') }}
