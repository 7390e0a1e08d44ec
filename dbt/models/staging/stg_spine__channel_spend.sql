select
    tenant_id,
    channel_id,
    date as spend_date,
    currency,
    spend,
    impressions,
    clicks,
    leads,
    opportunities
from {{ source('spine', 'channel_spend_daily') }}
